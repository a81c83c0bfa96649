//! The stream between two nodes: frames with a checksum, so that what is not the group's is noticed
//! at once and its sender named.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use timely::communication::allocator::zero_copy::stream::Stream;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes over the links of a node since it started, frames and all.
#[derive(Debug, Default)]
pub(crate) struct LinkBytes {
    pub sent: AtomicU64,
    pub received: AtomicU64,
}

/// Longest frame.
const FRAME_MAX: usize = 1 << 20;

/// Length and checksum.
const HEADER: usize = 8;

/// One half of a link.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    /// Who is at the other end.
    peer: Arc<str>,
    bytes: Arc<LinkBytes>,
    frame: Vec<u8>,
    /// How much of the frame has been read.
    read: usize,
    out: Vec<u8>,
}

impl Link {
    pub(crate) fn new(stream: TcpStream, peer: String, bytes: Arc<LinkBytes>) -> Self {
        Self {
            stream,
            peer: peer.into(),
            bytes,
            frame: Vec::new(),
            read: 0,
            out: Vec::new(),
        }
    }

    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.peer))
    }

    fn next_frame(&mut self) -> io::Result<()> {
        let mut header = [0; HEADER];
        self.stream
            .read_exact(&mut header)
            .map_err(|e| self.named(&e))?;
        let [a, b, c, d, sum @ ..] = header;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let garbage = |what: String| {
            let message = format!("{} sent what is no frame of the group: {what}", self.peer);
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        };
        if len == 0 || len > FRAME_MAX {
            return garbage(format!("a length of {len}"));
        }
        let mut frame = std::mem::take(&mut self.frame);
        frame.resize(len, 0);
        self.stream
            .read_exact(&mut frame)
            .map_err(|e| self.named(&e))?;
        if (xxh3_64(&frame) as u32).to_le_bytes() != sum {
            return garbage("another checksum".to_owned());
        }
        self.frame = frame;
        self.read = 0;
        let bytes = (HEADER + len) as u64;
        self.bytes.received.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Read for Link {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.read == self.frame.len() {
            self.next_frame()?;
        }
        let len = into.len().min(self.frame.len() - self.read);
        into[..len].copy_from_slice(&self.frame[self.read..self.read + len]);
        self.read += len;
        Ok(len)
    }
}

impl Write for Link {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let from = &from[..from.len().min(FRAME_MAX)];
        if from.is_empty() {
            return Ok(0);
        }
        self.out.clear();
        self.out
            .extend_from_slice(&(from.len() as u32).to_le_bytes());
        self.out
            .extend_from_slice(&(xxh3_64(from) as u32).to_le_bytes());
        self.out.extend_from_slice(from);
        self.stream
            .write_all(&self.out)
            .map_err(|e| self.named(&e))?;
        self.bytes
            .sent
            .fetch_add(self.out.len() as u64, Ordering::Relaxed);
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Stream for Link {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
            peer: Arc::clone(&self.peer),
            bytes: Arc::clone(&self.bytes),
            frame: Vec::new(),
            read: 0,
            out: Vec::new(),
        })
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream.shutdown(how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let other = thread::spawn(move || TcpStream::connect(address).unwrap());
        let (stream, _) = listener.accept().unwrap();
        let link = Link::new(stream, "node 7 at 10.0.0.7".to_owned(), Arc::default());
        (link, other.join().unwrap())
    }

    #[test]
    fn bytes_arrive_whole_whatever_their_number() {
        let (mut here, there) = pair();
        let mut there = Link::new(there, "here".to_owned(), Arc::default());
        let sent: Vec<u8> = (0..3 * FRAME_MAX / 2).map(|i| (i * 7) as u8).collect();
        let copy = sent.clone();
        let writing = thread::spawn(move || there.write_all(&copy).unwrap());
        let mut received = vec![0; sent.len()];
        here.read_exact(&mut received).unwrap();
        writing.join().unwrap();
        assert!(received == sent);
    }

    #[test]
    fn garbage_is_refused_with_the_name_of_its_sender() {
        let flipped = {
            let mut frame = 4_u32.to_le_bytes().to_vec();
            frame.extend((xxh3_64(b"good") as u32).to_le_bytes());
            frame.extend(b"goof");
            frame
        };
        for bytes in [
            vec![0xff; 64],
            vec![0; 64],
            flipped,
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        ] {
            let (mut here, mut there) = pair();
            there.write_all(&bytes).unwrap();
            drop(there);
            let error = here.read(&mut [0; 16]).unwrap_err().to_string();
            assert!(error.contains("node 7 at 10.0.0.7"), "{error}");
        }
    }
}
