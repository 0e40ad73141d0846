//! What a request looks like on the wire, and which requests in which versions this broker takes.
//! The decoders of `kafka-protocol` reserve room for as many items as an array claims to have, so that twenty hostile
//! bytes would ask for gigabytes and end the process. [`walk`] goes over a request first and refuses every claim that
//! the bytes do not bear out. It must never accept what the decoders would read in another way: no offered version
//! has tagged fields of its own, and a test decodes generated requests of every version.

use kafka_protocol::messages::ApiKey;

/// A request that contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it ends in the middle of a field")]
    Short,
    #[error("a length is negative or too large")]
    Length,
}

/// An API that this broker offers.
#[derive(Debug)]
pub struct Offer {
    pub key: ApiKey,
    /// The first and the last version offered.
    pub versions: (i16, i16),
    /// From this version on lengths are varints and structures end in tagged fields.
    flexible: i16,
    fields: &'static [Field],
}

#[derive(Debug)]
struct Field {
    since: i16,
    until: i16,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    Text,
    Bytes,
    /// An array of structures.
    Structs(&'static [Field]),
    /// An array of plain values.
    Values(&'static Kind),
}

use Kind::{Bytes, Fixed, Structs, Text, Values};

const fn always(kind: Kind) -> Field {
    between(0, i16::MAX, kind)
}

const fn since(version: i16, kind: Kind) -> Field {
    between(version, i16::MAX, kind)
}

const fn between(since: i16, until: i16, kind: Kind) -> Field {
    Field { since, until, kind }
}

const INT8: Kind = Fixed(1);
const INT16: Kind = Fixed(2);
const INT32: Kind = Fixed(4);
const INT64: Kind = Fixed(8);
const UUID: Kind = Fixed(16);

const fn offer(key: ApiKey, versions: (i16, i16), flexible: i16, fields: &'static [Field]) -> Offer {
    Offer { key, versions, flexible, fields }
}

/// A version that no offer reaches: the API is not flexible in the versions offered.
const NEVER: i16 = i16::MAX;

/// Everything offered, ascending by API key. Field by field from Kafka's message definitions
/// (clients/src/main/resources/common/message). The upper ends leave out what this broker does not do: topic ids in
/// Produce and Fetch (from 13 on), static group members (JoinGroup 5, SyncGroup 3, Heartbeat 3, LeaveGroup 3,
/// OffsetCommit 7), several groups in one request (OffsetFetch 8, FindCoordinator 4), transactions.
pub static OFFERS: &[Offer] = &[
    offer(
        ApiKey::Produce,
        (3, 9),
        9,
        &[
            always(Text),
            always(INT16),
            always(INT32),
            always(Structs(&[always(Text), always(Structs(&[always(INT32), always(Bytes)]))])),
        ],
    ),
    offer(
        ApiKey::Fetch,
        (4, 11),
        NEVER,
        &[
            always(INT32),
            always(INT32),
            always(INT32),
            always(INT32),
            always(INT8),
            since(7, INT32),
            since(7, INT32),
            always(Structs(&[
                always(Text),
                always(Structs(&[always(INT32), since(9, INT32), always(INT64), since(5, INT64), always(INT32)])),
            ])),
            since(7, Structs(&[always(Text), always(Values(&INT32))])),
            since(11, Text),
        ],
    ),
    offer(
        ApiKey::ListOffsets,
        (1, 6),
        6,
        &[
            always(INT32),
            since(2, INT8),
            always(Structs(&[always(Text), always(Structs(&[always(INT32), since(4, INT32), always(INT64)]))])),
        ],
    ),
    offer(
        ApiKey::Metadata,
        (0, 12),
        9,
        &[always(Structs(&[since(10, UUID), always(Text)])), since(4, INT8), between(8, 10, INT8), since(8, INT8)],
    ),
    offer(
        ApiKey::OffsetCommit,
        (2, 6),
        NEVER,
        &[
            always(Text),
            always(INT32),
            always(Text),
            between(2, 4, INT64),
            always(Structs(&[
                always(Text),
                always(Structs(&[always(INT32), always(INT64), since(6, INT32), always(Text)])),
            ])),
        ],
    ),
    offer(
        ApiKey::OffsetFetch,
        (1, 7),
        6,
        &[always(Text), always(Structs(&[always(Text), always(Values(&INT32))])), since(7, INT8)],
    ),
    offer(ApiKey::FindCoordinator, (0, 3), 3, &[always(Text), since(1, INT8)]),
    offer(
        ApiKey::JoinGroup,
        (0, 4),
        NEVER,
        &[
            always(Text),
            always(INT32),
            since(1, INT32),
            always(Text),
            always(Text),
            always(Structs(&[always(Text), always(Bytes)])),
        ],
    ),
    offer(ApiKey::Heartbeat, (0, 2), NEVER, &[always(Text), always(INT32), always(Text)]),
    offer(ApiKey::LeaveGroup, (0, 2), NEVER, &[always(Text), always(Text)]),
    offer(
        ApiKey::SyncGroup,
        (0, 2),
        NEVER,
        &[always(Text), always(INT32), always(Text), always(Structs(&[always(Text), always(Bytes)]))],
    ),
    offer(ApiKey::DescribeGroups, (0, 4), NEVER, &[always(Values(&Text)), since(3, INT8)]),
    offer(ApiKey::ListGroups, (0, 4), 3, &[since(4, Values(&Text))]),
    offer(ApiKey::ApiVersions, (0, 4), 3, &[since(3, Text), since(3, Text)]),
    offer(
        ApiKey::CreateTopics,
        (2, 7),
        5,
        &[
            always(Structs(&[
                always(Text),
                always(INT32),
                always(INT16),
                always(Structs(&[always(INT32), always(Values(&INT32))])),
                always(Structs(&[always(Text), always(Text)])),
            ])),
            always(INT32),
            always(INT8),
        ],
    ),
    offer(ApiKey::DeleteTopics, (1, 5), 4, &[always(Values(&Text)), always(INT32)]),
    offer(ApiKey::InitProducerId, (0, 4), 2, &[always(Text), always(INT32), since(3, INT64), since(3, INT16)]),
    offer(
        ApiKey::OffsetForLeaderEpoch,
        (2, 3),
        NEVER,
        &[
            since(3, INT32),
            always(Structs(&[always(Text), always(Structs(&[always(INT32), always(INT32), always(INT32)]))])),
        ],
    ),
    offer(
        ApiKey::DescribeConfigs,
        (1, 4),
        4,
        &[always(Structs(&[always(INT8), always(Text), always(Values(&Text))])), always(INT8), since(3, INT8)],
    ),
];

/// The offer of an API, if there is one.
pub fn offered(key: ApiKey) -> Option<&'static Offer> {
    OFFERS.iter().find(|offer| offer.key == key)
}

impl Offer {
    pub fn includes(&self, version: i16) -> bool {
        (self.versions.0..=self.versions.1).contains(&version)
    }
}

/// Checks the body of a request, without its header: every length and every count is borne out by the bytes.
/// Bytes after the last field are left alone, as Kafka does.
pub fn walk(offer: &Offer, version: i16, body: &[u8]) -> Result<(), Malformed> {
    let mut walker = Walker { rest: body, version, flexible: version >= offer.flexible };
    walker.structure(offer.fields)
}

struct Walker<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
}

impl Walker<'_> {
    fn structure(&mut self, fields: &[Field]) -> Result<(), Malformed> {
        for field in fields {
            if (field.since..=field.until).contains(&self.version) {
                self.value(&field.kind)?;
            }
        }
        if self.flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let size = self.varint()?;
                self.skip(size as usize)?;
            }
        }
        Ok(())
    }

    fn value(&mut self, kind: &Kind) -> Result<(), Malformed> {
        match kind {
            Fixed(size) => self.skip(*size),
            Text => {
                let length = if self.flexible { self.compact_length()? } else { self.int16()?.into() };
                self.skip(length)
            }
            Bytes => {
                let length = self.length()?;
                self.skip(length)
            }
            Structs(fields) => {
                for _ in 0..self.length()? {
                    self.structure(fields)?;
                }
                Ok(())
            }
            Values(kind) => {
                for _ in 0..self.length()? {
                    self.value(kind)?;
                }
                Ok(())
            }
        }
    }

    fn skip(&mut self, size: usize) -> Result<(), Malformed> {
        self.rest = self.rest.get(size..).ok_or(Malformed::Short)?;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The length of a text in the old form; 0 for null.
    fn int16(&mut self) -> Result<u16, Malformed> {
        match i16::from_be_bytes(self.take()?) {
            -1 => Ok(0),
            length => u16::try_from(length).map_err(|_| Malformed::Length),
        }
    }

    /// The length of bytes or the count of an array; 0 for null.
    fn length(&mut self) -> Result<usize, Malformed> {
        if self.flexible {
            return self.compact_length();
        }
        match i32::from_be_bytes(self.take()?) {
            -1 => Ok(0),
            length => usize::try_from(length).map_err(|_| Malformed::Length),
        }
    }

    fn compact_length(&mut self) -> Result<usize, Malformed> {
        Ok((self.varint()? as usize).saturating_sub(1))
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take()?;
            if shift == 28 && byte > 0x0f {
                return Err(Malformed::Length);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::{
        ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, DescribeGroupsRequest,
        FetchRequest, FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest, JoinGroupRequest,
        LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
        OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
    };
    use kafka_protocol::protocol::Decodable;
    use proptest::prelude::*;

    use super::*;

    /// Writes a request of this shape; `seed` decides lengths and counts.
    struct Writer {
        bytes: BytesMut,
        version: i16,
        flexible: bool,
        seed: u64,
    }

    impl Writer {
        fn below(&mut self, limit: u64) -> usize {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.seed >> 33) % limit) as usize
        }

        fn length(&mut self, length: usize, wide: bool) {
            if self.flexible {
                let mut value = length + 1;
                while value >= 0x80 {
                    self.bytes.put_u8((value as u8) | 0x80);
                    value >>= 7;
                }
                self.bytes.put_u8(value as u8);
            } else if wide {
                self.bytes.put_i32(length as i32);
            } else {
                self.bytes.put_i16(length as i16);
            }
        }

        fn structure(&mut self, fields: &[Field]) {
            for field in fields {
                if (field.since..=field.until).contains(&self.version) {
                    self.value(&field.kind);
                }
            }
            if self.flexible {
                // One tag that nobody knows, or none.
                let tags = self.below(2);
                self.bytes.put_slice(if tags == 0 { &[0] } else { &[1, 77, 2, 5, 5] });
            }
        }

        fn value(&mut self, kind: &Kind) {
            match kind {
                Fixed(size) => self.bytes.put_bytes(1, *size),
                Text | Bytes => {
                    let length = self.below(200);
                    self.length(length, matches!(kind, Bytes));
                    self.bytes.put_bytes(b'x', length);
                }
                Structs(fields) => {
                    let count = self.below(3);
                    self.length(count, true);
                    (0..count).for_each(|_| self.structure(fields));
                }
                Values(kind) => {
                    let count = self.below(3);
                    self.length(count, true);
                    (0..count).for_each(|_| self.value(kind));
                }
            }
        }
    }

    fn written(offer: &Offer, version: i16, seed: u64) -> bytes::Bytes {
        let mut writer = Writer { bytes: BytesMut::new(), version, flexible: version >= offer.flexible, seed };
        writer.structure(offer.fields);
        writer.bytes.freeze()
    }

    /// Decodes with the crate; how many bytes are left over, or that it refused.
    fn left_over(key: ApiKey, version: i16, mut body: bytes::Bytes) -> Result<usize, String> {
        let body = &mut body;
        match key {
            ApiKey::Produce => ProduceRequest::decode(body, version).map(drop),
            ApiKey::Fetch => FetchRequest::decode(body, version).map(drop),
            ApiKey::ListOffsets => ListOffsetsRequest::decode(body, version).map(drop),
            ApiKey::Metadata => MetadataRequest::decode(body, version).map(drop),
            ApiKey::OffsetCommit => OffsetCommitRequest::decode(body, version).map(drop),
            ApiKey::OffsetFetch => OffsetFetchRequest::decode(body, version).map(drop),
            ApiKey::FindCoordinator => FindCoordinatorRequest::decode(body, version).map(drop),
            ApiKey::JoinGroup => JoinGroupRequest::decode(body, version).map(drop),
            ApiKey::Heartbeat => HeartbeatRequest::decode(body, version).map(drop),
            ApiKey::LeaveGroup => LeaveGroupRequest::decode(body, version).map(drop),
            ApiKey::SyncGroup => SyncGroupRequest::decode(body, version).map(drop),
            ApiKey::DescribeGroups => DescribeGroupsRequest::decode(body, version).map(drop),
            ApiKey::ListGroups => ListGroupsRequest::decode(body, version).map(drop),
            ApiKey::ApiVersions => ApiVersionsRequest::decode(body, version).map(drop),
            ApiKey::CreateTopics => CreateTopicsRequest::decode(body, version).map(drop),
            ApiKey::DeleteTopics => DeleteTopicsRequest::decode(body, version).map(drop),
            ApiKey::InitProducerId => InitProducerIdRequest::decode(body, version).map(drop),
            ApiKey::OffsetForLeaderEpoch => OffsetForLeaderEpochRequest::decode(body, version).map(drop),
            ApiKey::DescribeConfigs => DescribeConfigsRequest::decode(body, version).map(drop),
            other => panic!("{other:?} is offered but not decoded in this test"),
        }
        .map_err(|why| why.to_string())?;
        Ok(body.len())
    }

    #[test]
    fn every_offered_version_is_read_exactly_as_the_decoder_reads_it() {
        for offer in OFFERS {
            for version in offer.versions.0..=offer.versions.1 {
                for seed in 0..50 {
                    let body = written(offer, version, seed);
                    assert_eq!(walk(offer, version, &body), Ok(()), "{:?} v{version}", offer.key);
                    assert_eq!(left_over(offer.key, version, body), Ok(0), "{:?} v{version}", offer.key);
                }
            }
        }
    }

    #[test]
    fn a_count_that_the_bytes_do_not_bear_out_is_refused() {
        let metadata = offered(ApiKey::Metadata).expect("Metadata is offered");
        assert_eq!(walk(metadata, 1, &[0x7f, 0xff, 0xff, 0xff, 0, 1, b'x']), Err(Malformed::Short));
        assert_eq!(walk(metadata, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(Malformed::Short));
        assert_eq!(walk(metadata, 1, &[0x80, 0, 0, 0]), Err(Malformed::Length));
    }

    proptest! {
        /// What the walk lets through is decoded without a panic and without more memory than the bytes account for.
        #[test]
        fn damaged_requests_are_refused_or_decoded(
            which in 0..OFFERS.len(), seed in any::<u64>(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>()
        ) {
            let offer = &OFFERS[which];
            let version = offer.versions.0 + (seed % (offer.versions.1 - offer.versions.0 + 1) as u64) as i16;
            let mut body = written(offer, version, seed).to_vec();
            prop_assume!(!body.is_empty());
            let at = at.index(body.len());
            body[at] = with;
            if cut {
                body.truncate(at);
            }
            if walk(offer, version, &body).is_ok() {
                let _ = left_over(offer.key, version, body.into());
            }
        }
    }
}
