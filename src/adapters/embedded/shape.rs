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
#[path = "shape_tests.rs"]
mod tests;
