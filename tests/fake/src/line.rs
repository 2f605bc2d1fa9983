//! TCP connections that hang, answer in another protocol, are slow, or break, as the test says.
//! They know nothing of what is said on them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::world::{Greeting, World};

/// So often in a second a slow line goes on.
const BEATS: usize = 20;
/// What one that speaks HTTP/1.1 says.
const HTTP1: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A connection.
#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    world: World,
    sent: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

/// The connections that are to be served, until the world ends.
pub(crate) fn accept(listener: TcpListener, world: World) -> ReceiverStream<io::Result<Line>> {
    let (out, lines) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut changes = world.changes();
        let mut silent = Vec::new();
        while !world.state().over {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = changes.changed() => continue,
            };
            let Ok((mut stream, _)) = accepted else { continue };
            match world.state().faults.greeting {
                Greeting::Serve => {}
                Greeting::Hang => {
                    silent.push(stream);
                    continue;
                }
                Greeting::Close => continue,
                Greeting::Http1 => {
                    tokio::spawn(async move { stream.write_all(HTTP1).await });
                    continue;
                }
            }
            let line = Line { stream, world: world.clone(), sent: 0, pause: None };
            if out.send(Ok(line)).await.is_err() {
                break;
            }
        }
    });
    ReceiverStream::new(lines)
}

impl Connected for Line {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let (rate, most) = {
            let faults = &self.world.state().faults;
            (faults.bytes_per_second, faults.reset_after)
        };
        let mut len = buf.len();
        if rate > 0 {
            len = len.min((rate / BEATS).max(1));
        }
        if most > 0 {
            len = len.min(most.saturating_sub(self.sent));
            if len == 0 {
                // What is not acknowledged yet is lost, and the peer sees a reset.
                let _ = self.stream.set_zero_linger();
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &buf[..len]))?;
        self.sent += sent;
        if rate > 0 {
            let pause = Duration::from_secs(1) / u32::try_from(BEATS).unwrap_or(1);
            self.pause = Some(Box::pin(tokio::time::sleep(pause)));
        }
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
