//! The stream between two nodes: frames with a checksum, so that what is not the group's is noticed
//! at once and its sender named.

use crate::{
    compress::{Compression, Compressor, decompress},
    stream::NodeStream,
};
use std::{
    io::{self, Read, Write},
    net::Shutdown,
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

/// The bit of a frame's length that says that it is compressed.
const COMPRESSED: u32 = 1 << 31;

/// Length and checksum.
const HEADER: usize = 8;

/// The other end of a link.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Who is there.
    pub name: Arc<str>,
    /// Where bytes from and to it are counted.
    pub bytes: Arc<LinkBytes>,
    /// How it is written to; what it writes says itself what it is.
    pub compression: Compression,
}

/// One half of a link.
#[derive(Debug)]
pub(crate) struct Link {
    stream: NodeStream,
    peer: Peer,
    frame: Vec<u8>,
    /// How much of the frame has been read.
    read: usize,
    /// A frame as it came, if it came compressed.
    compressed: Vec<u8>,
    compressor: Option<Compressor>,
    out: Vec<u8>,
}

impl Link {
    pub(crate) fn new(stream: NodeStream, peer: Peer) -> io::Result<Self> {
        Ok(Self {
            stream,
            compressor: Compressor::of(peer.compression)?,
            peer,
            frame: Vec::new(),
            read: 0,
            compressed: Vec::new(),
            out: Vec::new(),
        })
    }

    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.peer.name))
    }

    fn next_frame(&mut self) -> io::Result<()> {
        let mut header = [0; HEADER];
        self.stream
            .read_exact(&mut header)
            .map_err(|e| self.named(&e))?;
        let [a, b, c, d, sum @ ..] = header;
        let word = u32::from_le_bytes([a, b, c, d]);
        let (len, compressed) = ((word & !COMPRESSED) as usize, word & COMPRESSED != 0);
        let garbage = |what: String| {
            let name = &self.peer.name;
            let message = format!("{name} sent what is no frame of the group: {what}");
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
        if compressed {
            std::mem::swap(&mut frame, &mut self.compressed);
            if let Err(error) = decompress(&self.compressed, FRAME_MAX, &mut frame) {
                return garbage(format!("it cannot be decompressed: {error}"));
            }
        }
        self.frame = frame;
        self.read = 0;
        let bytes = (HEADER + len) as u64;
        self.peer.bytes.received.fetch_add(bytes, Ordering::Relaxed);
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
        self.out.resize(HEADER, 0);
        let compressor = self.compressor.as_mut();
        let compressed = compressor.is_some_and(|to| to.append(from, &mut self.out));
        if !compressed {
            self.out.extend_from_slice(from);
        }
        let (head, body) = self.out.split_at_mut(HEADER);
        let flag = if compressed { COMPRESSED } else { 0 };
        head[..4].copy_from_slice(&(body.len() as u32 | flag).to_le_bytes());
        head[4..].copy_from_slice(&(xxh3_64(body) as u32).to_le_bytes());
        self.stream
            .write_all(&self.out)
            .map_err(|e| self.named(&e))?;
        self.peer
            .bytes
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
        Self::new(self.stream.try_clone()?, self.peer.clone())
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.stream.tcp().set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream.tcp().shutdown(how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Network;
    use std::{
        net::{TcpListener, TcpStream},
        thread,
    };

    fn link(stream: TcpStream, name: &str, compression: Compression) -> Link {
        let peer = Peer {
            name: name.into(),
            bytes: Arc::default(),
            compression,
        };
        Link::new(Network(None).accept(stream).unwrap(), peer).unwrap()
    }

    fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let other = thread::spawn(move || TcpStream::connect(address).unwrap());
        let (stream, _) = listener.accept().unwrap();
        let link = link(stream, "node 7 at 10.0.0.7", Compression::None);
        (link, other.join().unwrap())
    }

    #[test]
    fn bytes_arrive_whole_whatever_their_number() {
        for compression in [Compression::None, Compression::Zstd] {
            let (mut here, there) = pair();
            let mut there = link(there, "here", compression);
            let sent: Vec<u8> = (0..3 * FRAME_MAX / 2).map(|i| (i * 7) as u8).collect();
            let copy = sent.clone();
            let writing = thread::spawn(move || {
                there.write_all(&copy).unwrap();
                there.peer.bytes.sent.load(Ordering::Relaxed)
            });
            let mut received = vec![0; sent.len()];
            here.read_exact(&mut received).unwrap();
            let on_the_wire = writing.join().unwrap();
            assert!(received == sent);
            assert_eq!(
                here.peer.bytes.received.load(Ordering::Relaxed),
                on_the_wire
            );
            let whole = (sent.len() + 2 * HEADER) as u64;
            match compression {
                Compression::None => assert_eq!(on_the_wire, whole),
                Compression::Zstd => assert!(on_the_wire < whole / 100, "{on_the_wire}"),
            }
        }
    }

    #[test]
    fn what_would_not_be_shorter_goes_as_it_is() {
        let (mut here, there) = pair();
        let mut there = link(there, "here", Compression::Zstd);
        // Checksums of a counter have no repetition.
        let words = (0..10_000_u64).map(|i| xxh3_64(&i.to_le_bytes()));
        let sent: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        there.write_all(&sent).unwrap();
        there.write_all(b"short").unwrap();
        let mut received = vec![0; sent.len() + 5];
        here.read_exact(&mut received).unwrap();
        assert!(received == [&sent[..], b"short"].concat());
        let frames = (received.len() + 2 * HEADER) as u64;
        assert_eq!(there.peer.bytes.sent.load(Ordering::Relaxed), frames);
    }

    #[test]
    fn garbage_is_refused_with_the_name_of_its_sender() {
        let flipped = {
            let mut frame = 4_u32.to_le_bytes().to_vec();
            frame.extend((xxh3_64(b"good") as u32).to_le_bytes());
            frame.extend(b"goof");
            frame
        };
        let not_compressed = {
            let mut frame = (4 | COMPRESSED).to_le_bytes().to_vec();
            frame.extend((xxh3_64(b"good") as u32).to_le_bytes());
            frame.extend(b"good");
            frame
        };
        let too_long = {
            let body = zstd::bulk::compress(&vec![0; FRAME_MAX + 1], 1).unwrap();
            let mut frame = (body.len() as u32 | COMPRESSED).to_le_bytes().to_vec();
            frame.extend((xxh3_64(&body) as u32).to_le_bytes());
            frame.extend(body);
            frame
        };
        for bytes in [
            not_compressed,
            too_long,
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
