//! A connection whose client has a bounded time to take what it is sent.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Fails once something could not be sent within the time: from the moment that the client does not
/// take it until it has taken all that there was, however slowly.
#[derive(Debug)]
pub struct Bounded<S> {
    stream: S,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Bounded<S> {
    /// `stream`, whose client has `patience`.
    pub fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, waiting: None }
    }

    fn wait<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let waiting = match (&mut self.waiting, poll.is_pending()) {
            // What goes out slowly is no better than what does not: the time goes on.
            (Some(waiting), _) => waiting,
            (None, true) => self.waiting.insert(Box::pin(sleep(self.patience))),
            (None, false) => return poll,
        };
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => poll,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        let whole = matches!(&written, Poll::Ready(Ok(sent)) if *sent == bytes.len());
        let written = self.wait(context, written);
        if whole {
            self.waiting = None;
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: usize = bytes.iter().map(|piece| piece.len()).sum();
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        let whole = matches!(&written, Poll::Ready(Ok(sent)) if *sent == all);
        let written = self.wait(context, written);
        if whole {
            self.waiting = None;
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        ready!(self.wait(context, flushed))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.wait(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_byte_now_and_then_is_cut_off() {
        let (mut client, server) = tokio::io::duplex(16);
        let mut server = Bounded::new(server, Duration::from_secs(8));
        let reads = tokio::spawn(async move {
            let mut byte = [0];
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if client.read(&mut byte).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        });
        let since = tokio::time::Instant::now();
        let error = server.write_all(&[0; 200]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(since.elapsed() <= Duration::from_secs(9));
        drop(server);
        reads.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_all_of_it_has_its_time_anew() {
        let (mut client, server) = tokio::io::duplex(16);
        let mut server = Bounded::new(server, Duration::from_secs(8));
        let reads = tokio::spawn(async move {
            let mut piece = [0; 16];
            while client.read(&mut piece).await.unwrap_or(0) > 0 {
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        });
        for _ in 0..10 {
            server.write_all(&[0; 20]).await.unwrap();
        }
        drop(server);
        reads.await.unwrap();
    }
}
