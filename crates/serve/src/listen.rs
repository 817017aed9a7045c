//! Connections: accepted, timed, and at the end let go when their answers are complete.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use crate::Server;

/// Serves HTTP/1.1 on `listener` until `end` is ready. Then no request is taken any more, and those that are open may go on
/// for [`Limits::drain_time`](crate::Limits::drain_time); what is not complete by then is cut off.
///
/// # Errors
/// Those of the listener. A failure of one connection is not among them.
pub async fn serve(listener: TcpListener, server: Server, end: impl Future<Output = ()>) -> io::Result<()> {
    let limits = server.limits().clone();
    let (app, graceful) = (server.router(), GracefulShutdown::new());
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_time).max_headers(100);
    let mut end = pin!(end);
    loop {
        let accepted = tokio::select! {
            () = &mut end => break,
            accepted = accept(&listener, &room) => accepted?,
        };
        let (socket, permit) = accepted;
        let mut socket = TimeoutStream::new(socket);
        // Reading waits as long as an answer takes; the times for headers and bodies are kept elsewhere.
        socket.set_write_timeout(Some(limits.write_time));
        let service = TowerToHyperService::new(app.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(Box::pin(socket)), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    server.end();
    tracing::info!(seconds = limits.drain_time.as_secs_f64(), "ending; open answers may go on");
    let drained = tokio::time::timeout(limits.drain_time, graceful.shutdown()).await;
    if drained.is_err() {
        tracing::warn!("answers were cut off");
    }
    Ok(())
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, Option<tokio::sync::OwnedSemaphorePermit>)> {
    // Never closed, so there is always a permit.
    let permit = room.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                // Small events are to be on their way at once; without it they are only later.
                let _ = socket.set_nodelay(true);
                return Ok((socket, permit));
            }
            // The client was gone before it was taken.
            Err(error) if is_one_connections(&error) => {}
            Err(error) if is_the_listeners(&error) => return Err(error),
            // Descriptors or memory are short, or the network is: that passes, and those who are served stay.
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_one_connections(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Whether there will be no connection any more.
fn is_the_listeners(error: &io::Error) -> bool {
    /// EBADF, EINVAL, ENOTSOCK.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const BROKEN: [i32; 3] = [9, 22, 88];
    #[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
    const BROKEN: [i32; 3] = [9, 22, 38];
    /// WSAEBADF, WSAEINVAL, WSAENOTSOCK.
    #[cfg(windows)]
    const BROKEN: [i32; 3] = [10_009, 10_022, 10_038];
    error.raw_os_error().is_some_and(|code| BROKEN.contains(&code))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_listener_ends_the_server() {
        let is_the_end = |code| is_the_listeners(&io::Error::from_raw_os_error(code));
        assert!([9, 22, 88].into_iter().all(is_the_end));
        // EPERM, ENOMEM, ENFILE, EMFILE, EPROTO, EOPNOTSUPP, ENETDOWN, ECONNABORTED, ENOBUFS, ETIMEDOUT, EHOSTUNREACH
        assert!(![1, 12, 23, 24, 71, 95, 100, 103, 105, 110, 113].into_iter().any(is_the_end));
    }
}
