//! The body of a request: a message in the form of its destination.

use logcore::AlertLevel;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::message::{Message, PLACEHOLDERS, Source, shorten};
use crate::template::Template;

/// Units of UTF-16 that Discord takes as `content`.
const DISCORD_CONTENT: usize = 2000;

/// The form of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PayloadKind {
    /// <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>
    Slack,
    /// <https://discord.com/developers/docs/resources/webhook#execute-webhook>
    Discord,
    /// One member for each placeholder.
    Json,
}

/// Returns the body of a message.
pub(crate) fn encode(kind: PayloadKind, template: Option<&Template>, message: &Message, source: &Source) -> String {
    let Some(template) = template else {
        return match kind {
            PayloadKind::Slack => slack(message, source),
            PayloadKind::Discord => discord(message, source),
            PayloadKind::Json => PLACEHOLDERS
                .iter()
                .map(|name| ((*name).to_owned(), message.value(name, source)))
                .collect::<Map<_, _>>()
                .into(),
        }
        .to_string();
    };
    match kind {
        PayloadKind::Slack => template.render(|name| match message.value(name, source) {
            Value::String(text) => escape_slack(&text).into(),
            other => other,
        }),
        PayloadKind::Discord => silence_discord(template.render(|name| message.value(name, source))),
        PayloadKind::Json => template.render(|name| message.value(name, source)),
    }
}

/// Returns Slack's form.
fn slack(message: &Message, source: &Source) -> Value {
    let mark = match message.level {
        AlertLevel::Error => "🔴",
        AlertLevel::Warn => "🟡",
        _ => "🔵",
    };
    let mut text = format!("{mark} *{}*\n", escape_slack(&message.title));
    if !message.text.is_empty() {
        text.push_str(&escape_slack(&message.text));
        text.push('\n');
    }
    text.push_str(&escape_slack(&source.describe(message)));
    json!({"text": text, "unfurl_links": false, "unfurl_media": false})
}

/// Escapes the three characters with which Slack's commands begin: `<!channel>` and `<@user>` in
/// foreign text must notify nobody.
fn escape_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Returns Discord's form.
fn discord(message: &Message, source: &Source) -> Value {
    let color = match message.level {
        AlertLevel::Error => 0xd0_3030,
        AlertLevel::Warn => 0xd0_a000,
        _ => 0x30_70d0,
    };
    // The limits of an embed: 256 units of title, 4,096 of description, 2,048 of footer, 6,000
    // together.
    let footer = shorten(&source.describe(message), 500);
    json!({
        "embeds": [{
            "title": message.title, "description": message.text, "color": color, "footer": {"text": footer},
        }],
        "allowed_mentions": {"parse": []},
    })
}

/// Makes a body of a user's template one that notifies nobody whom the foreign text names, and that
/// Discord takes.
fn silence_discord(body: String) -> String {
    // A template is checked, so this is JSON.
    let Ok(Value::Object(mut body)) = serde_json::from_str(&body) else {
        return body;
    };
    if let Some(Value::String(content)) = body.get_mut("content") {
        *content = shorten(content, DISCORD_CONTENT);
    }
    body.entry("allowed_mentions").or_insert_with(|| json!({"parse": []}));
    Value::Object(body).to_string()
}

#[cfg(test)]
mod tests {
    use logcore::Alert;
    use proptest::prelude::*;

    use super::*;

    fn encoded(kind: PayloadKind, template: Option<&str>, title: &str, text: &str) -> Value {
        let source = Source {
            run: "trainer".into(),
            logger: "trainer".into(),
            rank: 3,
            has_ranks: true,
            ..Source::default()
        };
        let message = Message::alert(&Alert::new(title, text, AlertLevel::Error).at_step(12));
        let template = template.map(|text| Template::parse(text, PLACEHOLDERS).unwrap());
        serde_json::from_str(&encode(kind, template.as_ref(), &message, &source)).unwrap()
    }

    #[test]
    fn foreign_text_notifies_nobody() {
        let text = "<!channel> <@U1> @everyone & <https://x|y>";
        for template in [None, Some(r#"{"text": "{title} {text}"}"#)] {
            let slack = encoded(PayloadKind::Slack, template, text, text);
            let shown = slack["text"].as_str().unwrap();
            assert!(
                !shown.contains(['<', '>']) && shown.contains("&lt;!channel&gt;"),
                "{shown}"
            );
        }
        for template in [None, Some(r#"{"content": "{title} {text}"}"#)] {
            let discord = encoded(PayloadKind::Discord, template, text, text);
            assert_eq!(discord["allowed_mentions"], json!({"parse": []}));
        }
        let own = r#"{"content": "<@1> {title}", "allowed_mentions": {"users": ["1"]}}"#;
        let discord = encoded(PayloadKind::Discord, Some(own), "x", "");
        assert_eq!(discord["allowed_mentions"], json!({"users": ["1"]}));
    }

    #[test]
    fn messages_tell_where_they_come_from() {
        let slack = encoded(PayloadKind::Slack, None, "loss is NaN", "lr 0.1");
        assert_eq!(slack["text"], "🔴 *loss is NaN*\nlr 0.1\ntrainer · rank 3 · step 12");
        let discord = encoded(PayloadKind::Discord, None, "loss is NaN", "lr 0.1");
        assert_eq!(discord["embeds"][0]["footer"]["text"], "trainer · rank 3 · step 12");
        let json = encoded(PayloadKind::Json, None, "loss is NaN", "lr 0.1");
        assert_eq!(
            (&json["kind"], &json["rank"], &json["status"]),
            (&json!("alert"), &json!(3), &Value::Null)
        );
        assert_eq!(json.as_object().unwrap().len(), PLACEHOLDERS.len());
    }

    fn units(value: &Value) -> usize {
        value.as_str().unwrap().encode_utf16().count()
    }

    proptest! {
        #[test]
        fn no_message_is_too_long(title in "(\\PC|😀|&){1,300}", part in "(\\PC|😀|<){1,9}") {
            let text = part.repeat(3000);
            let discord = encoded(PayloadKind::Discord, None, &title, &text);
            let embed = &discord["embeds"][0];
            prop_assert!(units(&embed["title"]) <= 256 && units(&embed["description"]) <= 4096);
            let all = units(&embed["title"]) + units(&embed["description"]) + units(&embed["footer"]["text"]);
            prop_assert!(all <= 6000);
            let content = encoded(PayloadKind::Discord, Some(r#"{"content": "{title} {text}"}"#), &title, &text);
            prop_assert!(units(&content["content"]) <= 2000);
            let slack = encoded(PayloadKind::Slack, None, &title, &text);
            prop_assert!(slack["text"].as_str().unwrap().chars().count() <= 40_000);
        }
    }
}
