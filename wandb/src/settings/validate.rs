//! Checks of names, texts and addresses, before the server sees them.

use logcore::ConfigError;
use reqwest::Url;

/// Checks the name of a project.
pub(crate) fn project(field: &str, name: &str) -> Result<(), ConfigError> {
    if name.is_empty()
        || name.chars().count() > 128
        || name.contains(['/', '\\', '#', '?', '%', ':'])
        || has_control(name)
    {
        let remedy = "a project name has 1 to 128 characters and none of / \\ # ? % :";
        return Err(ConfigError::new(field, name.escape_debug(), remedy));
    }
    Ok(())
}

/// Checks the id of a run.
pub(crate) fn run_id(field: &str, id: &str) -> Result<(), ConfigError> {
    let bad = id.is_empty() || id.trim() != id || id.chars().count() > 128 || has_control(id);
    // The id is a part of file names and addresses.
    if bad || id.contains([':', ';', ',', '#', '?', '/', '\'', '\\', '%']) || id.starts_with('.') {
        let remedy = "a run id has 1 to 128 characters, no space around it, and none of : ; , # ? / ' \\ %";
        return Err(ConfigError::new(field, id.escape_debug(), remedy));
    }
    Ok(())
}

/// Checks tags, and removes duplicates.
pub(crate) fn tags(field: &str, tags: &mut Vec<String>) -> Result<(), ConfigError> {
    if let Some(tag) = tags
        .iter()
        .find(|tag| tag.is_empty() || tag.chars().count() > 64 || has_control(tag))
    {
        let remedy = "a tag has 1 to 64 characters";
        return Err(ConfigError::new(field, tag.escape_debug(), remedy));
    }
    let mut seen = std::collections::BTreeSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
    Ok(())
}

/// Checks the name of a user or team.
pub(crate) fn name(field: &str, name: &str) -> Result<(), ConfigError> {
    if name.is_empty() || name.contains('/') || has_control(name) || name.chars().count() > 128 {
        let remedy = "use 1 to 128 characters, no `/` and no control characters";
        return Err(ConfigError::new(field, name.escape_debug(), remedy));
    }
    Ok(())
}

/// Checks a text for people: a name, a group, notes. One invalid text makes the server refuse the
/// whole run.
pub(crate) fn text(field: &str, text: &str, kind: TextKind) -> Result<(), ConfigError> {
    let long = text.chars().count() > kind.longest();
    // Notes have several lines.
    let allowed = |c: char| kind == TextKind::Notes && matches!(c, '\n' | '\r' | '\t');
    if long || text.chars().any(|c| c.is_control() && !allowed(c)) {
        let start: String = text.chars().take(SHOWN).collect();
        let more = if start.len() < text.len() { "…" } else { "" };
        let remedy = match kind {
            TextKind::Notes => format!(
                "write at most {} characters, and no control characters but line ends and tabs",
                kind.longest()
            ),
            _ => format!(
                "W&B takes at most {} characters here, and no control characters",
                kind.longest()
            ),
        };
        return Err(ConfigError::new(
            field,
            format!("{}{more}", start.escape_debug()),
            remedy,
        ));
    }
    Ok(())
}

/// The kind of a text for people, which decides the greatest length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextKind {
    /// The display name, the group or the sweep.
    Name,
    /// `job_type`, which servers truncate: <https://github.com/wandb/wandb/issues/6402>.
    JobType,
    Notes,
    /// The host, the program or the user.
    Environment,
}

impl TextKind {
    /// Returns the greatest number of characters.
    fn longest(self) -> usize {
        match self {
            Self::Name => 128,
            Self::JobType => 64,
            Self::Notes => 64 << 10,
            Self::Environment => 4096,
        }
    }
}

/// Number of characters of a refused text that an error repeats.
const SHOWN: usize = 200;

/// Checks the address of a server, and returns the address without trailing slashes.
pub(crate) fn base_url(field: &str, text: &str) -> Result<String, ConfigError> {
    let trimmed = text.trim_end_matches('/');
    let Ok(url) = Url::parse(trimmed) else {
        // Even a malformed address may hold a password or a token.
        let shown = if trimmed.contains(['@', '?', '#']) {
            "***".to_owned()
        } else {
            text.escape_debug().to_string()
        };
        return Err(ConfigError::new(
            field,
            shown,
            "write an address such as https://api.wandb.ai",
        ));
    };
    // A parser drops such characters or reads them as `/`, so that people and the parser would see
    // different hosts.
    if trimmed.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        let remedy = "the address has white space, a control character or a backslash in it";
        return Err(ConfigError::new(field, "***", remedy));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ConfigError::new(
            field,
            "***",
            "the address must not hold a name or password; use `api_key` or WANDB_API_KEY",
        ));
    }
    // The part after the host may be a secret, too.
    let shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or("***"));
    let refuse = |remedy: &str| Err(ConfigError::new(field, &shown, remedy));
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
        return refuse("an address begins with http:// or https:// and names a host");
    };
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("remove `?` and `#` and the text after them");
    }
    if host == "wandb.ai" || host.ends_with(".wandb.ai") {
        if url.scheme() != "https" {
            return refuse("wandb.ai is reached by https only");
        }
        if !host.contains("api.") {
            return refuse("the API of wandb.ai is at https://api.wandb.ai");
        }
    }
    if trimmed == "https://forge.coreweave.com/api/wandb" {
        return Ok(super::DEFAULT_BASE_URL.to_owned());
    }
    Ok(trimmed.to_owned())
}

/// Checks the address of a proxy. The address may hold a password and is never shown.
pub(crate) fn proxy(field: &str, url: &str) -> Result<(), ConfigError> {
    let remedy = "write an address such as http://proxy:3128";
    reqwest::Proxy::all(url)
        .map(drop)
        .map_err(|_| ConfigError::new(field, "***", remedy))
}

/// Returns `true` if a text has control characters.
fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_ids_and_tags_are_refused() {
        for bad in ["", "a/b", "a\\b", "a#", "a?", "50%", "a:b", "a\nb", &"x".repeat(129)] {
            assert_eq!(project("p", bad).unwrap_err().field, "p", "{bad}");
        }
        project("p", &"ü".repeat(128)).unwrap();
        for bad in ["", "a?", " a", "a/b", "it's", "a;b", "a,b", "#a", "a:b", "..", "a\tb"] {
            assert!(run_id("r", bad).is_err(), "{bad}");
        }
        run_id("r", "abc123_-.x").unwrap();
        assert!(tags("t", &mut vec!["x".repeat(65)]).is_err());
        assert!(tags("t", &mut vec![String::new()]).is_err());
        let mut twice = vec!["x".repeat(64), "a".to_owned(), "a".to_owned()];
        tags("t", &mut twice).unwrap();
        assert_eq!(twice.len(), 2);
    }

    #[test]
    fn a_text_that_is_too_long_or_has_control_characters_is_refused() {
        for (kind, longest) in [
            (TextKind::Name, 128),
            (TextKind::JobType, 64),
            (TextKind::Notes, 64 << 10),
        ] {
            text("f", &"ü".repeat(longest), kind).unwrap();
            let refused = text("f", &"ü".repeat(longest + 1), kind).unwrap_err();
            assert_eq!(refused.field, "f");
            assert!(refused.remedy.contains(&longest.to_string()), "{refused}");
            for bad in ["a\0b", "\u{1b}[31m", "\u{9b}x", "\u{7f}"] {
                let refused = text("f", bad, kind).unwrap_err().to_string();
                assert!(!refused.chars().any(char::is_control), "{refused:?}");
            }
            assert_eq!(text("f", "two\nlines", kind).is_ok(), kind == TextKind::Notes);
        }
    }

    #[test]
    fn a_base_url_is_checked_without_repeating_secrets() {
        assert_eq!(
            base_url("b", "http://127.0.0.1:80/x/").unwrap(),
            "http://127.0.0.1:80/x"
        );
        for bad in [
            "",
            "api.wandb.ai",
            "ftp://a",
            "http://api.wandb.ai",
            "https://wandb.ai",
            "http://",
            "http://a?b",
        ] {
            assert!(base_url("b", bad).is_err(), "{bad}");
        }
        for bad in ["http://a\\b", "http://a\tb", "http://a /b", "http://a\u{7f}"] {
            assert!(base_url("b", bad).is_err(), "{bad:?}");
        }
        for bad in [
            "https://user:secret@host",
            "https://user:secret@a b",
            "htps://user:secret@host",
            "htps:user:secret@host",
            "https://host?token=secret",
            "https://host/#secret",
            "htps://host/secret",
            "https://a b?token=secret",
        ] {
            let error = base_url("b", bad).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let error = base_url("b", "ftp://host/x").unwrap_err();
        assert_eq!(error.value, "ftp://host");
    }
}
