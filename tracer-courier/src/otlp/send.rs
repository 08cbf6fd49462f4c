//! One attempt to give a collector something, over gRPC or HTTP, and what its answer means.
//! <https://opentelemetry.io/docs/specs/otlp/>

use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use rampage::settings::{Otlp, OtlpProtocol};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Url};
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::http::{self, BadSetting};
use crate::names;
use crate::receiver::Outcome;

/// Why no connection to a collector can be made.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// Its settings.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// gRPC or its TLS.
    #[error("no connection can be made: {0}")]
    Grpc(#[from] tonic::transport::Error),
}

/// A collector; its client is made when it is first needed.
#[derive(Clone, Debug)]
pub struct Collector {
    settings: Otlp,
    client: Option<Protocol>,
}

#[derive(Clone, Debug)]
enum Protocol {
    Grpc(Channel, HeaderMap),
    Http { client: Client, logs: Url, metrics: Url, headers: HeaderMap },
}

/// What is wrong with the settings.
pub fn problem(settings: &Otlp) -> Option<BadSetting> {
    http::url(&settings.endpoint).err().or_else(|| http::headers(&settings.headers).err())
}

impl Collector {
    /// As the settings say.
    pub fn new(settings: Otlp) -> Self {
        Self { settings, client: None }
    }

    /// One attempt to give it log records.
    pub async fn logs(&mut self, request: ExportLogsServiceRequest) -> Outcome {
        let patience = self.settings.timeout.get();
        let answer = match self.connect() {
            Err(error) => return Outcome::refused(error),
            Ok(Protocol::Grpc(channel, headers)) => {
                let mut client = LogsServiceClient::new(channel.clone())
                    .max_decoding_message_size(http::MAX_ANSWER_BYTES);
                call(patience, client.export(with_metadata(request, headers))).await
            }
            Ok(Protocol::Http { client, logs, headers, .. }) => {
                post(client, logs, headers, &request).await
            }
        };
        answer.map_or_else(|failure| failure, |answer| logs_taken(&answer))
    }

    /// One attempt to give it metrics.
    pub async fn metrics(&mut self, request: ExportMetricsServiceRequest) -> Outcome {
        let patience = self.settings.timeout.get();
        let answer = match self.connect() {
            Err(error) => return Outcome::refused(error),
            Ok(Protocol::Grpc(channel, headers)) => {
                let mut client = MetricsServiceClient::new(channel.clone())
                    .max_decoding_message_size(http::MAX_ANSWER_BYTES);
                call(patience, client.export(with_metadata(request, headers))).await
            }
            Ok(Protocol::Http { client, metrics, headers, .. }) => {
                post(client, metrics, headers, &request).await
            }
        };
        answer.map_or_else(|failure| failure, |answer| metrics_taken(&answer))
    }

    fn connect(&mut self) -> Result<&Protocol, CollectorError> {
        let made = match self.client.take() {
            Some(made) => made,
            None => Protocol::new(&self.settings)?,
        };
        Ok(self.client.insert(made))
    }
}

impl Protocol {
    fn new(settings: &Otlp) -> Result<Self, CollectorError> {
        let url = http::url(&settings.endpoint)?;
        let headers = http::headers(&settings.headers)?;
        let patience = settings.timeout.get();
        match settings.protocol {
            OtlpProtocol::Grpc => Ok(Self::Grpc(channel(&url, patience)?, headers)),
            OtlpProtocol::Http => Ok(Self::Http {
                client: http::client(&url, patience)?,
                logs: below(&url, "v1/logs"),
                metrics: below(&url, "v1/metrics"),
                headers,
            }),
        }
    }
}

/// Connects when something is sent, and again after the connection was lost.
fn channel(url: &Url, patience: Duration) -> Result<Channel, tonic::transport::Error> {
    let mut endpoint = Endpoint::from_shared(url.to_string())?
        .connect_timeout(patience)
        .timeout(patience)
        .buffer_size(4)
        .initial_stream_window_size(http::MAX_ANSWER_BYTES as u32)
        .initial_connection_window_size(http::MAX_ANSWER_BYTES as u32);
    if url.scheme() == "https" {
        http::crypto();
        endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
    }
    Ok(endpoint.connect_with_connector_lazy(names::connector()))
}

fn below(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    let whole = format!("{}/{path}", url.path().trim_end_matches('/'));
    url.set_path(&whole);
    url
}

fn with_metadata<T>(message: T, headers: &HeaderMap) -> Request<T> {
    let mut request = Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(headers.clone());
    request
}

/// The answer to a call over gRPC.
async fn call<A>(
    patience: Duration,
    answer: impl Future<Output = Result<Response<A>, Status>>,
) -> Result<A, Outcome> {
    match timeout(patience, answer).await {
        Err(late) => Err(Outcome::again(late)),
        Ok(Err(status)) => Err(refusal(&status)),
        Ok(Ok(answer)) => Ok(answer.into_inner()),
    }
}

/// The answer to a message over HTTP; nothing was rejected where it can't be read.
async fn post<A: Message + Default>(
    client: &Client,
    url: &Url,
    headers: &HeaderMap,
    message: &impl Message,
) -> Result<A, Outcome> {
    let request = client
        .post(url.clone())
        .headers(headers.clone())
        .header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
        .body(message.encode_to_vec());
    let answer = request.send().await.map_err(http::error)?;
    match http::failure(&answer) {
        Some(failure) => Err(failure),
        // Taken, also when the rest of the answer does not come.
        None => {
            let body = http::body(answer).await.unwrap_or_default();
            Ok(A::decode(&body[..]).unwrap_or_default())
        }
    }
}

/// Which answers may be different next time, as the protocol says.
fn refusal(status: &Status) -> Outcome {
    let why = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Outcome::Again { after: None, why },
        // With details it says when to come back, without it never will be possible.
        Code::ResourceExhausted if !status.details().is_empty() => {
            Outcome::Again { after: None, why }
        }
        // An error on the way, which no peer has said: a connection that broke, or no gRPC at the other end
        // for now, such as a proxy before a collector that is down.
        Code::Unknown | Code::Internal if std::error::Error::source(status).is_some() => {
            Outcome::Again { after: None, why }
        }
        _ => Outcome::Refused { why },
    }
}

fn logs_taken(answer: &ExportLogsServiceResponse) -> Outcome {
    match &answer.partial_success {
        Some(partial) if partial.rejected_log_records > 0 => {
            Outcome::Refused { why: format!("it rejects the record: {}", partial.error_message) }
        }
        _ => Outcome::Delivered,
    }
}

fn metrics_taken(answer: &ExportMetricsServiceResponse) -> Outcome {
    match &answer.partial_success {
        Some(partial) if partial.rejected_data_points > 0 => Outcome::Refused {
            why: format!(
                "it rejects {} points: {}",
                partial.rejected_data_points, partial.error_message
            ),
        },
        _ => Outcome::Delivered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_endpoint() {
        let below = |text: &str| below(&http::url(text).unwrap(), "v1/logs").to_string();
        assert_eq!(below("http://h:4318"), "http://h:4318/v1/logs");
        assert_eq!(below("http://h:4318/otlp/"), "http://h:4318/otlp/v1/logs");
    }

    #[test]
    fn only_what_may_change_is_tried_again() {
        let again = |status: Status| matches!(refusal(&status), Outcome::Again { .. });
        assert!(again(Status::unavailable("")));
        assert!(again(Status::deadline_exceeded("")));
        assert!(!again(Status::resource_exhausted("")));
        assert!(!again(Status::unauthenticated("")));
        assert!(!again(Status::invalid_argument("")));
        // What the peer says is no error on the way, however it words it.
        assert!(!again(Status::unknown("transport error")));
        assert!(!again(Status::internal("h2 protocol error")));
    }
}
