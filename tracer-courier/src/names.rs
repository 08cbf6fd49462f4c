//! Looks names up by `/etc/hosts` and the servers in `/etc/resolv.conf`. The C library does not: linked into
//! the program it would load what /etc/nsswitch.conf names from the host, made for another version of it, and
//! each look-up would take a thread that cannot be interrupted.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hickory_resolver::Resolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hyper_util::client::legacy::connect::{HttpConnector, dns};
use reqwest::dns::{Addrs, Resolve, Resolving};
use tower_service::Service;

/// Keeps nothing: the files are read for each connection, so that a change in them holds at once.
#[derive(Clone, Copy, Debug)]
pub struct Names;

/// Connects by name, for those who do TLS themselves.
pub fn connector() -> HttpConnector<Names> {
    let mut connector = HttpConnector::new_with_resolver(Names);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector
}

async fn look_up(name: String) -> Result<Vec<SocketAddr>, NetError> {
    let provider = TokioRuntimeProvider::default();
    // Without servers there is still /etc/hosts.
    let builder = Resolver::builder(provider.clone())
        .unwrap_or_else(|_| Resolver::builder_with_config(ResolverConfig::default(), provider));
    let found = builder.build()?.lookup_ip(name.as_str()).await?;
    Ok(found.iter().map(|address| SocketAddr::new(address, 0)).collect())
}

impl Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> Resolving {
        let name = name.as_str().to_owned();
        Box::pin(async move {
            let found: Addrs = Box::new(look_up(name).await?.into_iter());
            Ok(found)
        })
    }
}

impl Service<dns::Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = NetError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NetError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        Box::pin(async move { Ok(look_up(name.as_str().to_owned()).await?.into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_of_the_host_are_known_and_others_are_not() {
        let found = look_up("localhost".to_owned()).await.unwrap();
        assert!(!found.is_empty() && found.iter().all(|one| one.ip().is_loopback()), "{found:?}");
        assert!(look_up("nowhere.invalid".to_owned()).await.is_err());
    }
}
