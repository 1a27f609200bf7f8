//! What names, addresses and keys may look like; what they are is for the server to say.

use logcore::ConfigError;
use reqwest::Url;

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

pub(crate) fn run_id(field: &str, id: &str) -> Result<(), ConfigError> {
    let bad = id.is_empty() || id.trim() != id || id.chars().count() > 128 || has_control(id);
    // It is a part of file names and addresses.
    if bad || id.contains([':', ';', ',', '#', '?', '/', '\'', '\\', '%']) || id.starts_with('.') {
        let remedy = "a run id has 1 to 128 characters, no space around it, and none of : ; , # ? / ' \\ %";
        return Err(ConfigError::new(field, id.escape_debug(), remedy));
    }
    Ok(())
}

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

pub(crate) fn name(field: &str, name: &str) -> Result<(), ConfigError> {
    if name.is_empty() || name.contains('/') || has_control(name) || name.chars().count() > 128 {
        let remedy = "it has 1 to 128 characters, no `/` and no control characters";
        return Err(ConfigError::new(field, name.escape_debug(), remedy));
    }
    Ok(())
}

/// Checks a text that people read: a name, a group, notes. A server refuses the whole run for one that it does not take, and
/// goes on refusing it.
pub(crate) fn text(field: &str, text: &str, kind: TextKind) -> Result<(), ConfigError> {
    let long = text.chars().count() > kind.longest();
    // Notes have lines.
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

/// The kind of a text for people, which decides how long W&B lets it be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextKind {
    /// The name that is shown, the group, the sweep.
    Name,
    /// `job_type`, which servers cut off shorter: <https://github.com/wandb/wandb/issues/6402>.
    JobType,
    Notes,
    /// The host, the program, who runs it.
    Place,
}

impl TextKind {
    fn longest(self) -> usize {
        match self {
            Self::Name => 128,
            Self::JobType => 64,
            // A page that people read.
            Self::Notes => 64 << 10,
            Self::Place => 4096,
        }
    }
}

/// How much of a refused text an error repeats.
const SHOWN: usize = 200;

/// Checks the address of a server; returns it without a slash at its end.
pub(crate) fn base_url(field: &str, text: &str) -> Result<String, ConfigError> {
    let trimmed = text.trim_end_matches('/');
    let Ok(url) = Url::parse(trimmed) else {
        // It may hold a password or a token all the same.
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
    // A character that a parser takes out or reads as `/` makes an address that people read as another.
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
    // What stands behind the host may be a secret, too.
    let shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or("***"));
    let refuse = |remedy: &str| Err(ConfigError::new(field, &shown, remedy));
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
        return refuse("an address begins with http:// or https:// and names a host");
    };
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("leave out what stands after `?` and `#`");
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

/// Checks the address of a proxy, which may hold a password and is never shown.
pub(crate) fn proxy(field: &str, url: &str) -> Result<(), ConfigError> {
    let remedy = "write an address such as http://proxy:3128";
    reqwest::Proxy::all(url)
        .map(drop)
        .map_err(|_| ConfigError::new(field, "***", remedy))
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_forms_are_refused() {
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
    fn texts_that_no_server_takes_are_refused_by_their_field() {
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
    fn addresses() {
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
