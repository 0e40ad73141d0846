//! Generated requests of every offered version, whole and damaged, through the walk and through the decoders.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    FetchRequest, FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
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
