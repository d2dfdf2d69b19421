//! Local sockets with abstract names, which vanish with their last descriptor.
//!
//! A value of these types belongs to one descriptor table: it must be dropped
//! by a thread of the table it was made in. Nothing here raises SIGPIPE.

use core::mem::{offset_of, size_of};

use crate::errno::Errno;
use crate::{clock, fd, sys};

/// Who is on the other side, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Process, in our pid namespace (0 where it has no number there).
    pub pid: i32,
    /// Effective user when it connected.
    pub uid: u32,
}

/// A socket that waits for clients.
#[derive(Debug)]
pub struct Listener {
    fd: i32,
}

impl Listener {
    /// Listens at an abstract name (without its leading zero).
    ///
    /// # Errors
    /// EADDRINUSE where the name is taken, ENAMETOOLONG over 107 bytes, or why
    /// there are no sockets here.
    pub fn bind(name: &[u8], backlog: i32) -> Result<Self, Errno> {
        let (address, len) = abstract_address(name)?;
        let listener = Self { fd: socket()? };
        // SAFETY: the address is readable for `len` bytes.
        let bound = unsafe { sys::bind(listener.fd, (&raw const address) as usize, len) };
        Errno::check(bound)?;
        Errno::check(sys::listen(listener.fd, backlog))?;
        Ok(listener)
    }

    /// Waits for a client; `None` when a signal came, the client left again, or
    /// [`shut`] ended the wait.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn accept(&self) -> Result<Option<Stream>, Errno> {
        if !fd::poll_in(self.fd, -1)? {
            return Ok(None);
        }
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no address is asked for.
        match Errno::check(unsafe { sys::accept4(self.fd, 0, 0, flags) }) {
            Ok(fd) => Ok(Some(Stream { fd: fd as i32 })),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the descriptor's number away, for [`Listener::from_fd`] in another
    /// thread of this table, and for [`shut`].
    #[must_use]
    pub fn into_fd(self) -> i32 {
        core::mem::ManuallyDrop::new(self).fd
    }

    /// The listener behind a number that [`Listener::into_fd`] gave away.
    #[must_use]
    pub fn from_fd(fd: i32) -> Self {
        Self { fd }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        fd::close(self.fd);
    }
}

/// Ends the wait of whoever accepts or receives on a socket of this table.
pub fn shut(fd: i32) {
    let _ = sys::shutdown(fd, libc::SHUT_RDWR);
}

/// One connection.
#[derive(Debug)]
pub struct Stream {
    fd: i32,
}

impl Stream {
    /// Connects to an abstract name.
    ///
    /// # Errors
    /// ECONNREFUSED where nobody listens.
    pub fn connect(name: &[u8]) -> Result<Self, Errno> {
        let (address, len) = abstract_address(name)?;
        let stream = Self { fd: socket()? };
        // SAFETY: the address is readable for `len` bytes.
        let done = unsafe { sys::connect(stream.fd, (&raw const address) as usize, len) };
        Errno::check(done).map(|_| stream)
    }

    /// Who is on the other side.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn peer(&self) -> Result<Peer, Errno> {
        let mut found = libc::ucred {
            pid: 0,
            uid: 0,
            gid: 0,
        };
        let mut len = size_of::<libc::ucred>() as u32;
        let (value, len_at) = ((&raw mut found) as usize, (&raw mut len) as usize);
        // SAFETY: the value and its length are ours for the call.
        let got =
            unsafe { sys::getsockopt(self.fd, libc::SOL_SOCKET, libc::SO_PEERCRED, value, len_at) };
        Errno::check(got)?;
        Ok(Peer {
            pid: found.pid,
            uid: found.uid,
        })
    }

    /// Waits up to `timeout_ms` for bytes. `None`: none came; 0: the peer has
    /// hung up.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn receive(&self, out: &mut [u8], timeout_ms: i32) -> Result<Option<usize>, Errno> {
        if timeout_ms > 0 && !fd::poll_in(self.fd, timeout_ms)? {
            return Ok(None);
        }
        let (addr, len) = (out.as_mut_ptr() as usize, out.len());
        // SAFETY: the buffer is ours for the call; no address is asked for.
        let got = unsafe { sys::recvfrom(self.fd, addr, len, libc::MSG_DONTWAIT, 0, 0) };
        match Errno::check(got) {
            Ok(got) => Ok(Some(got)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(Errno::ECONNRESET) => Ok(Some(0)),
            Err(error) => Err(error),
        }
    }

    /// Sends what has room at once; 0 when nothing has.
    ///
    /// # Errors
    /// EPIPE when the peer has hung up.
    pub fn send_now(&self, data: &[u8]) -> Result<usize, Errno> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let (addr, len) = (data.as_ptr() as usize, data.len());
        // SAFETY: the data is readable for the call; the peer is connected.
        match Errno::check(unsafe { sys::sendto(self.fd, addr, len, flags, 0, 0) }) {
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            other => other,
        }
    }

    /// Sends everything, waiting up to `timeout_ms` in all.
    ///
    /// # Errors
    /// ETIMEDOUT when the peer does not take it, EPIPE when it has hung up.
    pub fn send(&self, mut data: &[u8], timeout_ms: u32) -> Result<(), Errno> {
        let until = clock::boot_ns() + u64::from(timeout_ms) * 1_000_000;
        while !data.is_empty() {
            let sent = self.send_now(data)?;
            data = data.get(sent..).unwrap_or_default();
            let left = until.saturating_sub(clock::boot_ns()) / 1_000_000;
            if data.is_empty() || sent > 0 {
                continue;
            }
            if left == 0 {
                return Err(Errno::ETIMEDOUT);
            }
            let _ = fd::poll_out(self.fd, left.min(1000) as i32)?;
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        fd::close(self.fd);
    }
}

fn socket() -> Result<i32, Errno> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    Errno::check(sys::socket(libc::AF_UNIX, kind, 0)).map(|fd| fd as i32)
}

/// The address of an abstract name, and its length.
fn abstract_address(name: &[u8]) -> Result<(libc::sockaddr_un, u32), Errno> {
    let mut address = libc::sockaddr_un {
        sun_family: libc::AF_UNIX as libc::sa_family_t,
        sun_path: [0; 108],
    };
    let room = address.sun_path.get_mut(1..=name.len());
    for (to, from) in room.ok_or(Errno::ENAMETOOLONG)?.iter_mut().zip(name) {
        *to = from.cast_signed() as libc::c_char;
    }
    let len = offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
    Ok((address, len as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(what: &str) -> Vec<u8> {
        format!("vswap-test/{}/{what}", std::process::id()).into_bytes()
    }

    fn pair(what: &str) -> (Listener, Stream, Stream) {
        let listener = Listener::bind(&name(what), 4).unwrap();
        let client = Stream::connect(&name(what)).unwrap();
        let server = listener.accept().unwrap().unwrap();
        (listener, client, server)
    }

    #[test]
    fn both_sides_know_each_other_and_what_is_sent_arrives() {
        let (_listener, client, server) = pair("sent");
        let us = Peer {
            pid: std::process::id() as i32,
            uid: sys::geteuid() as u32,
        };
        assert_eq!(server.peer(), Ok(us));
        assert_eq!(client.peer(), Ok(us));
        client.send(b"hello\n", 1000).unwrap();
        let mut buffer = [0u8; 32];
        assert_eq!(server.receive(&mut buffer, 1000), Ok(Some(6)));
        assert_eq!(&buffer[..6], b"hello\n");
        assert_eq!(server.receive(&mut buffer, 0), Ok(None));
        assert_eq!(server.receive(&mut buffer, 10), Ok(None));
        drop(client);
        assert_eq!(server.receive(&mut buffer, 1000), Ok(Some(0)));
        assert_eq!(server.send(b"gone", 1000), Err(Errno::EPIPE));
    }

    #[test]
    fn a_peer_that_does_not_read_is_not_waited_for_longer_than_said() {
        let (_listener, _client, server) = pair("slow");
        let much = vec![7u8; 16 << 20];
        assert_eq!(server.send(&much, 50), Err(Errno::ETIMEDOUT));
        assert_eq!(server.send_now(b"x"), Ok(0));
    }

    #[test]
    fn a_name_is_taken_once_and_free_when_its_owner_is_gone() {
        let first = Listener::bind(&name("taken"), 4).unwrap();
        let second = Listener::bind(&name("taken"), 4);
        assert_eq!(second.err(), Some(Errno::EADDRINUSE));
        drop(first);
        assert!(Listener::bind(&name("taken"), 4).is_ok());
        let long = [b'n'; 108];
        let refused = Listener::bind(&long, 4);
        assert_eq!(refused.err(), Some(Errno::ENAMETOOLONG));
        let nobody = Stream::connect(&name("nobody"));
        assert_eq!(nobody.err(), Some(Errno::ECONNREFUSED));
    }

    #[test]
    fn shutting_ends_the_wait_for_clients() {
        let listener = Listener::bind(&name("shut"), 4).unwrap();
        let fd = listener.into_fd();
        let waiting = std::thread::spawn(move || Listener::from_fd(fd).accept());
        std::thread::sleep(std::time::Duration::from_millis(20));
        shut(fd);
        assert!(waiting.join().unwrap().unwrap().is_none());
    }
}
