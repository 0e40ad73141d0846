//! What a MySQL client says, packet by packet: as much of the protocol as a proxy needs that cuts a connection at a
//! chosen moment. Must never hold more than one read's bytes and a packet's head.
//!
//! A packet is its payload's length in 3 bytes, a sequence number in 1, the payload. A command has number 0; rows of a
//! LOAD DATA, as parts of a log-in, go on counting. (MySQL internals, "MySQL Packets", "Text Protocol".)

/// Bytes of a packet's payload that tell what it is.
const HEAD: usize = 48;

const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;

/// What begins with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Commit,
    Load,
    /// Another statement in text; whether it changes rows.
    Query {
        writes: bool,
    },
    Prepare {
        writes: bool,
    },
    Execute {
        statement: u32,
    },
    /// Rows of a LOAD DATA.
    Rows,
    Other,
}

/// A stretch of bytes that lie within one packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    pub bytes: Vec<u8>,
    /// Where a packet begins here: what it is.
    pub begins: Option<Request>,
    /// The packet ends here.
    pub ends: bool,
}

/// Cuts a client's bytes into pieces.
#[derive(Debug, Default)]
pub struct Framing {
    waiting: Vec<u8>,
    /// Bytes of the present packet that are still to come.
    left: usize,
    loading: bool,
}

impl Framing {
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next piece; `None` until more bytes come.
    pub fn next_piece(&mut self) -> Option<Piece> {
        if self.left > 0 {
            if self.waiting.is_empty() {
                return None;
            }
            let length = self.left.min(self.waiting.len());
            self.left -= length;
            let bytes = self.waiting.drain(..length).collect();
            return Some(Piece { bytes, begins: None, ends: self.left == 0 });
        }
        let [a, b, c, number] = *self.waiting.first_chunk::<4>()?;
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        let head = self.waiting.get(4..4 + length.min(HEAD))?;
        let request = self.request(number, head);
        self.loading = match &request {
            Request::Load => true,
            Request::Rows => self.loading && length > 0,
            _ => false,
        };
        let there = (4 + length).min(self.waiting.len());
        self.left = 4 + length - there;
        let bytes = self.waiting.drain(..there).collect();
        Some(Piece { bytes, begins: Some(request), ends: self.left == 0 })
    }

    fn request(&self, number: u8, head: &[u8]) -> Request {
        let Some((&command, rest)) = head.split_first() else {
            return if self.loading { Request::Rows } else { Request::Other };
        };
        if number != 0 {
            return if self.loading { Request::Rows } else { Request::Other };
        }
        match command {
            COM_QUERY => statement(rest),
            COM_STMT_PREPARE => Request::Prepare { writes: writes(rest) },
            COM_STMT_EXECUTE => match rest.first_chunk::<4>() {
                Some(id) => Request::Execute { statement: u32::from_le_bytes(*id) },
                None => Request::Other,
            },
            _ => Request::Other,
        }
    }
}

fn first_word(text: &[u8]) -> String {
    let text = text.trim_ascii_start();
    text.iter().take_while(|byte| byte.is_ascii_alphabetic()).map(|byte| byte.to_ascii_uppercase() as char).collect()
}

fn statement(text: &[u8]) -> Request {
    match first_word(text).as_str() {
        "COMMIT" => Request::Commit,
        "LOAD" => Request::Load,
        _ => Request::Query { writes: writes(text) },
    }
}

fn writes(text: &[u8]) -> bool {
    matches!(first_word(text).as_str(), "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD")
}

/// The id that a server gives a prepared statement, by the first bytes of its answer; `None` where it refused.
pub fn prepared_id(answer: &[u8]) -> Option<u32> {
    match answer {
        [_, _, _, _, 0, a, b, c, d, ..] => Some(u32::from_le_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// A server's refusal of a command, as a packet.
pub fn refusal(code: u16, state: &str, words: &str) -> Vec<u8> {
    let mut payload = vec![0xff];
    payload.extend(code.to_le_bytes());
    payload.push(b'#');
    payload.extend(state.bytes().chain(std::iter::repeat(b'0')).take(5));
    payload.extend(words.bytes().take(400));
    let length = payload.len() as u32;
    let mut packet = length.to_le_bytes()[..3].to_vec();
    packet.push(1);
    packet.extend(payload);
    packet
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_le_bytes()[..3].to_vec();
        bytes.push(number);
        bytes.extend(payload);
        bytes
    }

    fn conversation() -> Vec<u8> {
        let rows = vec![b'r'; 5000];
        [
            packet(1, b"user and password"),
            packet(0, b"\x03 start transaction"),
            packet(0, b"\x16UPDATE bief_offset SET next_offset = ?"),
            packet(0, b"\x17\x07\0\0\0\0\x01\0\0\0"),
            packet(0, b"\x03LOAD DATA LOCAL INFILE 'x' INTO TABLE t"),
            packet(2, &rows),
            packet(3, b"COMMIT is a row here"),
            packet(4, b""),
            packet(0, b"\x03commit"),
            packet(0, b"\x01"),
        ]
        .concat()
    }

    fn requests(chunks: &[&[u8]]) -> (Vec<Request>, Vec<u8>, usize) {
        let (mut framing, mut found, mut bytes, mut ends) = (Framing::default(), Vec::new(), Vec::new(), 0);
        for chunk in chunks {
            framing.push(chunk);
            while let Some(piece) = framing.next_piece() {
                bytes.extend(piece.bytes);
                found.extend(piece.begins);
                ends += usize::from(piece.ends);
            }
        }
        (found, bytes, ends)
    }

    #[test]
    fn requests_are_told_from_rows_and_log_in() {
        let (found, ..) = requests(&[&conversation()]);
        let wanted = [
            Request::Other,
            Request::Query { writes: false },
            Request::Prepare { writes: true },
            Request::Execute { statement: 7 },
            Request::Load,
            Request::Rows,
            Request::Rows,
            Request::Rows,
            Request::Commit,
            Request::Other,
        ];
        assert_eq!(found, wanted);
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_they_all_pass_and_mean_the_same(cuts in prop::collection::vec(0..5400usize, 0..12)) {
            let whole = conversation();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|ends| &whole[ends[0]..ends[1]]).collect();
            let (wanted, ..) = requests(&[&whole]);
            prop_assert_eq!(requests(&chunks), (wanted, whole.clone(), 10));
        }
    }

    #[test]
    fn a_refusal_is_one_packet_with_code_and_state() {
        assert_eq!(refusal(1290, "HY000", "no"), b"\x0b\0\0\x01\xff\x0a\x05#HY000no");
        assert_eq!(prepared_id(&packet(1, b"\0\x09\0\0\0\x01\0")), Some(9));
        assert_eq!(prepared_id(&refusal(1064, "42000", "what?")), None);
    }
}
