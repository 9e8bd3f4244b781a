//! Connections on which hardly anything is on its way, so that a far end that does not read is noticed soon.

use anyhow::Context;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

/// Small packets, after which the kernel at the other end measures what it buffers.
const SEGMENT_BYTES: u32 = 536;

/// Connects to `http://ADDRESS:PORT`.
///
/// # Errors
/// It is not there, or the kernel does not take the options.
pub async fn connect(base: &str) -> anyhow::Result<TcpStream> {
    let address = base.trim_start_matches("http://").parse().context("no address")?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // As small a window as there is.
    socket.set_recv_buffer_size(1)?;
    socket.set_tcp_mss(SEGMENT_BYTES)?;
    socket.set_nonblocking(true)?;
    Ok(TcpSocket::from_std_stream(socket.into()).connect(address).await?)
}
