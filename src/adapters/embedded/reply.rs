//! A response on its way out: encoded fields and stored batches in one row of chunks, written with one gathering call.
//! Stored batches must never be copied when they are large.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Encodable, HeaderVersion};

/// Chunks below this are cheaper to copy than to hand to the kernel one by one.
const COPY_BELOW: usize = 2048;

/// A response being put together.
#[derive(Debug)]
pub struct Reply {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    version: i16,
}

/// A response could not be encoded: a text in it is too long for the protocol. (`kafka-protocol` reports with `anyhow`,
/// which this crate does not depend on: its errors become text here.)
#[derive(Debug, thiserror::Error)]
#[error("the response can't be encoded: {0}")]
pub struct EncodeError(String);

impl Reply {
    /// Starts a response with its header, in the header version that `R` has for `version`.
    pub fn to<R: HeaderVersion>(correlation_id: i32, version: i16) -> Result<Reply, EncodeError> {
        let mut reply = Reply { chunks: VecDeque::new(), tail: BytesMut::with_capacity(256), version };
        let header = ResponseHeader::default().with_correlation_id(correlation_id);
        header.encode(&mut reply.tail, R::header_version(version)).map_err(|why| EncodeError(why.to_string()))?;
        Ok(reply)
    }

    /// A whole response.
    pub fn whole<R: Encodable + HeaderVersion>(
        correlation_id: i32,
        version: i16,
        body: &R,
    ) -> Result<Reply, EncodeError> {
        let mut reply = Reply::to::<R>(correlation_id, version)?;
        reply.put(body)?;
        Ok(reply)
    }

    /// Appends a message or a part of one.
    pub fn put(&mut self, part: &impl Encodable) -> Result<(), EncodeError> {
        part.encode(&mut self.tail, self.version).map_err(|why| EncodeError(why.to_string()))
    }

    /// Overwrites the last four bytes: the length of what follows, in the versions of the protocol that are not flexible,
    /// where a part ends in the length of its last array or bytes.
    pub fn set_last_length(&mut self, length: usize) {
        let end = self.tail.len();
        if let Some(last) = end.checked_sub(4).and_then(|from| self.tail.get_mut(from..)) {
            last.copy_from_slice(&(length as i32).to_be_bytes());
        }
    }

    /// Appends bytes as they are.
    pub fn chunk(&mut self, bytes: Bytes) {
        if bytes.len() < COPY_BELOW {
            self.tail.put_slice(&bytes);
        } else {
            self.chunks.push_back(self.tail.split().freeze());
            self.chunks.push_back(bytes);
        }
    }

    /// The frame, length first.
    pub fn into_frame(mut self) -> Frame {
        self.chunks.push_back(self.tail.freeze());
        let size: usize = self.chunks.iter().map(Bytes::len).sum();
        self.chunks.push_front(Bytes::copy_from_slice(&(size as i32).to_be_bytes()));
        Frame { chunks: self.chunks }
    }
}

/// A whole frame, ready to be written.
#[derive(Debug)]
pub struct Frame {
    chunks: VecDeque<Bytes>,
}

impl Buf for Frame {
    fn remaining(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.iter().find(|chunk| !chunk.is_empty()).map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let full = self.chunks.iter().filter(|chunk| !chunk.is_empty());
        into.iter_mut().zip(full).map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.chunks.front_mut() {
            if first.len() > count {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.chunks.pop_front();
        }
        debug_assert_eq!(count, 0, "nothing is advanced past the end");
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::HeartbeatResponse;

    use super::*;

    #[test]
    fn a_frame_is_its_length_and_its_chunks_in_order() {
        let mut reply = Reply::whole(7, 1, &HeartbeatResponse::default().with_error_code(27)).unwrap();
        reply.chunk(Bytes::from(vec![b'a'; COPY_BELOW]));
        reply.chunk(Bytes::from_static(b"bc"));
        let mut frame = reply.into_frame();
        assert_eq!(frame.chunks.len(), 4);
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(frame.chunks_vectored(&mut slices), 4);
        let mut bytes = vec![0; 3];
        frame.copy_to_slice(&mut bytes);
        let rest = frame.copy_to_bytes(frame.remaining());
        bytes.extend_from_slice(&rest);
        assert_eq!(&bytes[..14], [0, 0, 8, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 27]);
        assert_eq!(bytes.len(), 14 + COPY_BELOW + 2);
        assert!(bytes.ends_with(b"abc"));
    }
}
