//! HTTP as a client: one attempt of a POST, with everything bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use tokio::time::timeout;

use crate::names::Names;
use crate::receiver::Outcome;

/// What is read of an answer.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The answer is in its status; its body is only read so that the connection can be used again.
const BODY_PATIENCE: Duration = Duration::from_secs(1);

/// Idle connections are closed after this.
const IDLE: Duration = Duration::from_secs(30);

/// What is wrong with the settings of a receiver.
#[derive(Debug, thiserror::Error)]
pub enum BadSetting {
    /// No http or https. Its text can hold a secret.
    #[error("the address is none of http or https")]
    Url,
    /// A header that HTTP does not allow. Its value can be a secret.
    #[error("the header `{0}` has characters that HTTP does not allow")]
    Header(String),
    /// The client cannot be made, such as without any certificate that is trusted.
    #[error("no connection can be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// An http or https address.
pub fn url(text: &str) -> Result<Url, BadSetting> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or(BadSetting::Url)
}

/// Headers as HTTP has them; their values are kept out of what is logged.
pub fn headers(headers: &BTreeMap<String, String>) -> Result<HeaderMap, BadSetting> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let bad = || BadSetting::Header(name.clone());
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
        value.set_sensitive(true);
        map.append(key, value);
    }
    Ok(map)
}

/// A client for `url`. Certificates are only read where they are needed: they take memory.
pub fn client(url: &Url, patience: Duration) -> Result<Client, BadSetting> {
    crypto();
    let builder = Client::builder()
        .http1_only()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .dns_resolver(Arc::new(Names))
        .timeout(patience)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("rampage/", env!("CARGO_PKG_VERSION")));
    let builder = match url.scheme() {
        "http" => builder.tls_certs_only([]),
        _ => builder,
    };
    Ok(builder.build()?)
}

/// Says which implementation of TLS is used; once is enough.
pub fn crypto() {
    // An error: it was said before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What the status of an answer means for an alert, if it was not taken.
pub fn failure(answer: &Response) -> Option<Outcome> {
    let status = answer.status();
    if status.is_success() {
        return None;
    }
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    let why = match status.is_redirection() {
        true => format!("it answers {status}, and redirects are not followed"),
        false => format!("it answers {status}"),
    };
    Some(if passing {
        Outcome::Again { after: retry_after(answer.headers()), why }
    } else {
        Outcome::Refused { why }
    })
}

/// What an error of a POST means: the receiver may be back later, except for what can never be sent.
pub fn error(error: reqwest::Error) -> Outcome {
    let lost = error.is_builder();
    // The address can hold a secret.
    let error = anyhow::Error::from(error.without_url());
    let why = format!("{error:#}");
    if lost { Outcome::Refused { why } } else { Outcome::Again { after: None, why } }
}

/// The body of an answer, as far as it is short and comes soon; None = it is not.
pub async fn body(mut answer: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let read = async {
        while let Some(piece) = answer.chunk().await.ok()? {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                return None;
            }
            body.extend_from_slice(&piece);
        }
        Some(())
    };
    timeout(BODY_PATIENCE, read).await.ok().flatten()?;
    Some(body)
}

/// Seconds only: the form with a date needs clocks that agree.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_told() {
        for bad in ["", "ops", "ftp://x/", "http://", "unix:/x", "//x/y", "https:"] {
            assert!(url(bad).is_err(), "{bad}");
        }
        for bad in ["ftp://h/services/T0/s3cret", "https://10.0.0.256/services/T0/s3cret"] {
            let error = url(bad).unwrap_err().to_string();
            assert!(!error.contains("services") && !error.contains("s3cret"), "{error}");
        }
        assert!(url("https://hooks.example.com/services/T0/B0").is_ok());
        let one = |name: &str, value: &str| headers(&[(name.into(), value.into())].into());
        assert!(one("Authorization", "Bearer x").is_ok());
        assert!(one("a b", "x").is_err());
        let error = one("x-token", "secret\r\nx: y").unwrap_err().to_string();
        assert!(error.contains("x-token") && !error.contains("secret"));
    }

    #[tokio::test]
    async fn a_client_for_https_has_certificates_or_says_so() {
        let url = url("https://127.0.0.1:1/").unwrap();
        let client = client(&url, Duration::from_secs(1)).unwrap();
        let failed = error(client.post(url).body("x").send().await.unwrap_err());
        let Outcome::Again { why, .. } = failed else { panic!("{failed:?}") };
        assert!(why.contains("refused") && !why.contains("127.0.0.1:1/"), "{why}");
    }
}
