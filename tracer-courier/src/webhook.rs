//! Webhooks: a POST for each alert, of JSON or of text for Slack.

use std::borrow::Cow;

use rampage::event::{Event, Finding, FindingState, Severity, Stamped};
use rampage::settings::{Webhook, WebhookFormat};
use rampage::text;
use rampage::trace::lines::{Encoder, LineError};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Url};
use serde::Serialize;

use crate::http::{self, BadSetting};
use crate::receiver::{Deliver, Outcome, Told};

/// Longest text for Slack, characters; Slack cuts at 40,000, and nobody reads that.
const MAX_SLACK_CHARS: usize = 3000;

/// A webhook; its client is made for the first alert.
#[derive(Debug)]
pub struct Hook {
    settings: Webhook,
    client: Option<(Client, Url, HeaderMap)>,
}

impl Hook {
    /// As the settings say.
    pub fn new(settings: Webhook) -> Self {
        Self { settings, client: None }
    }

    /// What is wrong with the settings.
    pub fn problem(settings: &Webhook) -> Option<BadSetting> {
        http::url(&settings.url).err().or_else(|| http::headers(&settings.headers).err())
    }

    fn connect(&mut self) -> Result<&(Client, Url, HeaderMap), BadSetting> {
        if self.client.is_none() {
            let url = http::url(&self.settings.url)?;
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.extend(http::headers(&self.settings.headers)?);
            let client = http::client(&url, self.settings.timeout.get())?;
            self.client = Some((client, url, headers));
        }
        self.client.as_ref().ok_or(BadSetting::Url)
    }
}

impl Deliver for Hook {
    async fn deliver(&mut self, told: &Told) -> Outcome {
        let body = match self.settings.format {
            WebhookFormat::Json => json(told),
            WebhookFormat::Slack => slack(told),
        };
        let body = match body {
            Ok(body) => body,
            Err(error) => return Outcome::refused(error),
        };
        let (client, url, headers) = match self.connect() {
            Ok(client) => client,
            Err(error) => return Outcome::refused(error),
        };
        let request = client
            .post(url.clone())
            .headers(headers.clone())
            .header("Idempotency-Key", key(told))
            .body(body);
        match request.send().await {
            Err(error) => http::error(error),
            Ok(answer) => match http::failure(&answer) {
                Some(failure) => failure,
                None => {
                    // Taken, whatever else it says.
                    http::body(answer).await;
                    Outcome::Delivered
                }
            },
        }
    }
}

/// The same for each attempt to deliver the same alert, and for no other one.
fn key(told: &Told) -> String {
    let finding = &told.alert.finding;
    format!("{}-{}-{}", told.about.boot_id, finding.id, told.alert.t_ns)
        .chars()
        .filter(char::is_ascii_graphic)
        .collect()
}

/// The finding as a line of a trace, without a newline, with `host`, `version` and `boot_id` before it.
pub fn json(told: &Told) -> Result<Vec<u8>, LineError> {
    #[derive(Serialize)]
    struct Head<'a> {
        host: &'a str,
        version: &'a str,
        boot_id: &'a str,
    }
    let head =
        Head { host: &told.about.host, version: &told.about.version, boot_id: &told.about.boot_id };
    let mut out = serde_json::to_vec(&head)?;
    let at = Stamped {
        t_ns: told.alert.t_ns,
        wall_ns: told.alert.wall_ns,
        event: Event::Finding(Box::new(told.alert.finding.clone())),
    };
    let joint = out.len() - 1;
    Encoder::default().encode(&at, &mut out)?;
    // `{"host":…}{"t":…}\n` becomes one object.
    out.splice(joint..joint + 2, *b",");
    while out.last() == Some(&b'\n') {
        out.pop();
    }
    Ok(out)
}

fn slack(told: &Told) -> Result<Vec<u8>, LineError> {
    #[derive(Serialize)]
    struct Message {
        text: String,
    }
    Ok(serde_json::to_vec(&Message { text: slack_text(&told.about.host, &told.alert.finding) })?)
}

/// `*CRITICAL* web-3: summary`. Slack's markup is escaped, so that a process cannot call @channel.
fn slack_text(host: &str, finding: &Finding) -> String {
    let word = match (finding.state, finding.severity) {
        (FindingState::Closed, _) => "OVER",
        (_, Severity::Critical) => "CRITICAL",
        (_, Severity::Warning) => "WARNING",
        (_, Severity::Info) => "INFO",
    };
    let plain = text::printable(&finding.summary);
    let mut cut: Cow<'_, str> = plain;
    if let Some((end, _)) = cut.char_indices().nth(MAX_SLACK_CHARS) {
        cut = format!("{}…", &cut[..end]).into();
    }
    let host = text::printable(host);
    format!("*{word}* {}: {}", escape(&host), escape(&cut))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{finding, told};

    #[test]
    fn json_is_a_line_of_a_trace_with_the_host() {
        let told = told(finding(9, Severity::Critical, FindingState::Raised));
        let body: serde_json::Value = serde_json::from_slice(&json(&told).unwrap()).unwrap();
        assert_eq!(body["host"], "web-3");
        assert_eq!(body["type"], "finding");
        assert_eq!(body["t"], 1_000);
        assert_eq!(body["time"], "2023-11-14T22:13:20.000000000Z");
        assert_eq!(body["id"], 9);
        assert_eq!(body["subject"]["pool"], "www");
        assert_eq!(body["evidence"]["form"], "stalled");
    }

    #[test]
    fn a_summary_cannot_steer_slack_and_is_bounded() {
        let mut finding = finding(1, Severity::Warning, FindingState::Closed);
        finding.summary = "<!channel> & \u{202e}\n".to_owned();
        let text = slack_text("web<3", &finding);
        assert_eq!(text, "*OVER* web&lt;3: &lt;!channel&gt; &amp; \\u{202e}\\n");
        finding.summary = "é<".repeat(100_000);
        assert!(slack_text("h", &finding).len() < 4 * MAX_SLACK_CHARS);
    }

    #[test]
    fn the_key_tells_attempts_from_alerts() {
        let (first, second) = (
            told(finding(1, Severity::Info, FindingState::Raised)),
            told(finding(2, Severity::Info, FindingState::Raised)),
        );
        assert_eq!(key(&first), "b00t-1-1000");
        assert_ne!(key(&first), key(&second));
    }
}
