use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The key in each form in which a reply could repeat it, so that none is ever shown.
pub(crate) struct Secret {
    forms: Vec<String>,
}

impl Secret {
    pub(crate) fn new(key: &str) -> Self {
        let forms = match key {
            "" => Vec::new(),
            key => vec![credentials(key), key.to_owned()],
        };
        Self { forms }
    }

    /// A text without it.
    pub(crate) fn clean(&self, text: &str) -> String {
        let hide = |text: String, form: &String| text.replace(form.as_str(), "***");
        self.forms.iter().fold(text.to_owned(), hide)
    }
}

/// What stands behind `Basic` in a request.
pub(crate) fn credentials(key: &str) -> String {
    STANDARD.encode(format!("api:{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_hidden() {
        let key = "a".repeat(40);
        let said = format!("no {key}, no {}", credentials(&key));
        assert_eq!(Secret::new(&key).clean(&said), "no ***, no ***");
        assert_eq!(Secret::new("").clean("a text"), "a text");
    }
}
