//! The HTML page around the data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

const TEMPLATE: &str = include_str!("../../page/built/index.html");

/// The style and the scripts of the page, which `cargo xtask page` has made smaller.
const STYLE: &str = include_str!("../../page/built/style.css");
const SCRIPT: &str = include_str!("../../page/built/report.js");

/// The same, with the additions for a page over live runs.
const LIVE_SCRIPT: &str = include_str!("../../page/built/live.js");

/// The drawing of curves, of which `cargo xtask page` keeps what the page draws, behind its
/// license.
const UPLOT: &str = concat!(
    "/*\nuPlot:\n\n",
    include_str!("../../page/vendor/LICENSE"),
    "*/\n",
    include_str!("../../page/built/uplot.js"),
);

/// A page whose parts are ready to be written.
pub(super) struct Page<'a> {
    pub(super) policy: String,
    parts: Vec<(String, &'a str)>,
}

impl<'a> Page<'a> {
    /// Creates the page around data that [`escape`] has escaped.
    pub(super) fn new(data: &'a str) -> Self {
        Self::with_script(data, SCRIPT, "", "")
    }

    /// Creates the page that asks its server for what is not in the data.
    pub(super) fn live(data: &'a str) -> Self {
        Self::with_script(data, LIVE_SCRIPT, " 'self'", "; connect-src 'self'")
    }

    fn with_script(data: &'a str, script: &str, more_images: &str, more_policy: &str) -> Self {
        // A browser hashes the text after it has replaced the line ends of a Windows checkout.
        let script = format!("{UPLOT}\n{script}").replace("\r\n", "\n");
        let style = STYLE.replace("\r\n", "\n");
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:{more_images}; base-uri 'none'; form-action 'none'{more_policy}",
            hash(&script),
            hash(&style)
        );
        let mut parts = Vec::new();
        let mut rest = TEMPLATE;
        for (mark, content) in [("{{policy}}", policy.clone()), ("{{style}}", style)] {
            let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
            parts.push((format!("{before}{content}"), ""));
            rest = after;
        }
        let (before, after) = rest.split_once("{{data}}").unwrap_or((rest, ""));
        parts.push((before.to_owned(), data));
        let (before, after) = after.split_once("{{script}}").unwrap_or((after, ""));
        parts.push((format!("{before}{script}{after}"), ""));
        Self { policy, parts }
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|(own, data)| [&**own, *data])
    }
}

/// Returns the hash of an inline script or style, as a content security policy has it.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// Escapes JSON for a `script` element. The characters occur in strings only.
///
/// `<` could end the element, and old scripts took the two separators for line ends.
pub(super) fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_without_data_is_small_and_its_own() {
        for page in [Page::new("{}"), Page::live("{}")] {
            check_small_and_own(&page.parts().collect::<String>());
        }
        for text in [STYLE, SCRIPT, LIVE_SCRIPT, UPLOT] {
            assert!(!text.contains("</script") && !text.contains("</style") && !text.contains("<!--"));
        }
        for text in [TEMPLATE, SCRIPT, LIVE_SCRIPT] {
            let markup = [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                " style=",
            ];
            assert!(!markup.iter().any(|markup| text.contains(markup)));
        }
    }

    fn check_small_and_own(page: &str) {
        assert!(page.len() <= 110_000, "{} bytes", page.len());
        assert!(!page.contains("{{"), "a mark is left");
        // The hashes are those of what stands between the tags.
        for (open, close) in [("<style>", "</style>"), ("<script>", "</script>")] {
            let text = page.split_once(open).unwrap().1.split_once(close).unwrap().0;
            assert!(page.contains(&hash(text)), "{open}");
        }
    }

    #[test]
    fn vendored_files_are_those_of_the_package() {
        let hex = |text: &str| {
            Sha256::digest(text.as_bytes())
                .iter()
                .fold(String::new(), |mut hex, byte| {
                    write!(hex, "{byte:02x}").unwrap();
                    hex
                })
        };
        for (text, sum) in [
            (
                include_str!("../../page/vendor/uPlot.iife.min.js"),
                "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
            ),
            (
                include_str!("../../page/vendor/uPlot.min.css"),
                "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
            ),
            (
                include_str!("../../page/vendor/LICENSE"),
                "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
            ),
        ] {
            assert_eq!(hex(&text.replace("\r\n", "\n")), sum);
        }
    }

    proptest! {
        #[test]
        fn escaped_json_is_the_same_json(text in any::<String>(), tail in "[<>/!\u{2028}\u{2029}a-z-]{0,20}") {
            let value = serde_json::json!({ "text": text, "tail": tail });
            let escaped = escape(&value.to_string());
            let has_odd = escaped.contains(['<', '\u{2028}', '\u{2029}']);
            prop_assert!(!has_odd);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        }
    }
}
