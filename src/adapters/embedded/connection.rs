//! One client's connection: frames in, answers out, one at a time and in order, as Kafka does. Bytes that make no sense
//! end this connection and nothing else; they must never panic or make room for more than was sent.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::catalog::api_versions;
use super::reply::{EncodeError, Reply};
use super::shape::{self, Malformed};
use super::state::{Caller, State};

/// The largest Produce request, as Kafka's `socket.request.max.bytes`.
const LARGEST_PRODUCE: usize = 100 * 1024 * 1024;

/// The largest request of any other kind: room for an assignment of all the partitions there can be. What is decoded
/// takes some tens of times the bytes that were sent.
const LARGEST_OTHER: usize = 1024 * 1024;

/// API key, version and correlation id: every request begins with them.
const SHORTEST: usize = 8;

/// Why a connection was closed from this side.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("a frame of {0} bytes is outside what is allowed")]
    FrameSize(i32),
    #[error("a request of API {key} version {version} was sent, which is not offered")]
    NotOffered { key: i16, version: i16 },
    #[error("a request of API {key} version {version} makes no sense: {why}")]
    Malformed { key: i16, version: i16, why: String },
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Serves one client until it goes or makes no sense.
pub async fn serve(mut stream: TcpStream, from: SocketAddr, state: Rc<State>) {
    match talk(&mut stream, from, &state).await {
        Ok(()) => tracing::trace!(%from, "a client of the embedded broker has gone"),
        Err(Closed::Broken(why)) => tracing::debug!(%from, %why, "a client of the embedded broker has gone"),
        Err(why) => tracing::warn!(%from, %why, "the embedded broker closes a connection"),
    }
}

async fn talk(stream: &mut TcpStream, from: SocketAddr, state: &State) -> Result<(), Closed> {
    stream.set_nodelay(true)?;
    let mut caller = Caller { reached: stream.local_addr()?, from, client_id: String::new() };
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    while let Some(frame) = read_frame(&mut reader).await? {
        if let Some(reply) = answer(frame, state, &mut caller).await? {
            writer.write_all_buf(&mut reply.into_frame()).await?;
        }
    }
    Ok(())
}

/// The next frame without its length; None when the client has gone between two frames.
async fn read_frame(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<Bytes>, Closed> {
    let length = match reader.read_i32().await {
        Ok(length) => length,
        Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(why) => return Err(why.into()),
    };
    let size = usize::try_from(length).map_err(|_| Closed::FrameSize(length))?;
    if !(SHORTEST..=LARGEST_PRODUCE).contains(&size) {
        return Err(Closed::FrameSize(length));
    }
    let mut start = [0; SHORTEST];
    reader.read_exact(&mut start).await?;
    if size > LARGEST_OTHER && i16::from_be_bytes([start[0], start[1]]) != ApiKey::Produce as i16 {
        return Err(Closed::FrameSize(length));
    }
    // Zeroed pages cost nothing until something is written to them: a client that claims much and sends little gets little.
    let mut frame = BytesMut::zeroed(size);
    let (head, rest) = frame.split_at_mut(SHORTEST);
    head.copy_from_slice(&start);
    reader.read_exact(rest).await?;
    Ok(Some(frame.freeze()))
}

/// Decodes the request and has it answered; None when no answer is due.
async fn answer(mut frame: Bytes, state: &State, caller: &mut Caller) -> Result<Option<Reply>, Closed> {
    let frame_bytes = frame.len();
    let key = i16::from_be_bytes([frame[0], frame[1]]);
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let correlation_id = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
    let api = ApiKey::try_from(key).map_err(|()| Closed::NotOffered { key, version })?;
    let offer = shape::offered(api).ok_or(Closed::NotOffered { key, version })?;
    if !offer.includes(version) {
        // The one request that is answered in any version, in the form of the first, so that a client learns what there is.
        if api == ApiKey::ApiVersions {
            let body = api_versions(Some(ResponseError::UnsupportedVersion));
            return Ok(Some(Reply::whole::<ApiVersionsResponse>(correlation_id, 0, &body)?));
        }
        return Err(Closed::NotOffered { key, version });
    }
    let header = RequestHeader::decode(&mut frame, api.request_header_version(version))
        .map_err(|why| Closed::Malformed { key, version, why: why.to_string().trim_end().to_owned() })?;
    caller.client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    shape::walk(offer, version, &frame).map_err(|why: Malformed| Closed::Malformed {
        key,
        version,
        why: why.to_string(),
    })?;

    let request = Incoming { body: frame, key, version, correlation_id };
    match api {
        ApiKey::Produce => match state.produce(request.decode()?, frame_bytes) {
            Some(body) => request.reply(&body),
            None => Ok(None),
        },
        ApiKey::Fetch => Ok(Some(state.fetch(&request.decode()?, correlation_id, version).await?)),
        ApiKey::ListOffsets => request.reply(&state.list_offsets(request.decode()?)),
        ApiKey::OffsetForLeaderEpoch => request.reply(&state.epoch_ends(request.decode()?)),
        ApiKey::InitProducerId => request.reply(&state.init_producer(&request.decode()?)),
        ApiKey::ApiVersions => request.reply(&api_versions(None)),
        ApiKey::Metadata => request.reply(&state.metadata(request.decode()?, version, caller)),
        ApiKey::CreateTopics => request.reply(&state.create_topics(request.decode()?)),
        ApiKey::DeleteTopics => request.reply(&state.delete_topics(request.decode()?, version)),
        ApiKey::DescribeConfigs => request.reply(&state.describe_configs(request.decode()?)),
        ApiKey::FindCoordinator => request.reply(&state.find_coordinator(&request.decode()?, version, caller)),
        ApiKey::JoinGroup => request.reply(&state.join_group(request.decode()?, version, caller).await),
        ApiKey::SyncGroup => request.reply(&state.sync_group(request.decode()?).await),
        ApiKey::Heartbeat => request.reply(&state.heartbeat(&request.decode()?)),
        ApiKey::LeaveGroup => request.reply(&state.leave_group(&request.decode()?)),
        ApiKey::OffsetCommit => request.reply(&state.commit_offsets(request.decode()?)),
        ApiKey::OffsetFetch => request.reply(&state.fetch_offsets(request.decode()?)),
        ApiKey::DescribeGroups => request.reply(&state.describe_groups(request.decode()?)),
        ApiKey::ListGroups => request.reply(&state.list_groups(&request.decode()?, version)),
        _ => Err(Closed::NotOffered { key, version }),
    }
}

/// A request behind its header.
struct Incoming {
    body: Bytes,
    key: i16,
    version: i16,
    correlation_id: i32,
}

impl Incoming {
    fn decode<R: Decodable>(&self) -> Result<R, Closed> {
        let (key, version) = (self.key, self.version);
        R::decode(&mut self.body.clone(), version).map_err(|why| Closed::Malformed {
            key,
            version,
            why: why.to_string().trim_end().to_owned(),
        })
    }

    fn reply<R: Encodable + HeaderVersion>(&self, body: &R) -> Result<Option<Reply>, Closed> {
        Ok(Some(Reply::whole(self.correlation_id, self.version, body)?))
    }
}
