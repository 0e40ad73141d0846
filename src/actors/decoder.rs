//! Turns the bytes of a batch into typed rows. A record that cannot be decoded goes on as a rejection with its
//! reason: it never stops the stream, and it stays with its batch so that it is stored in the same transaction.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use prometheus::Counter;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio_stream::wrappers::ReceiverStream;

use crate::core::decode::{Envelope, FieldOrder, RecordDecoder, TableRows};
use crate::core::mapping::Plan;
use crate::core::memory::REJECTION;
use crate::messages::{Board, RecordBatch, RowBatch, StreamTap};
use crate::metrics::{QueueMetrics, StreamMetrics};
use crate::runtime::ExitGuard;

pub struct Decoder {
    stream: String,
    plan: Arc<Plan>,
    order: FieldOrder,
    input: Option<Receiver<RecordBatch>>,
    output: Sender<RowBatch>,
    board: Board,
    tap: StreamTap,
    metrics: StreamMetrics,
    blocked: Counter,
    queue_in: QueueMetrics,
    queue_out: QueueMetrics,
    guard: ExitGuard,
}

/// What a decoder is made of.
pub struct DecoderSettings {
    pub stream: String,
    pub plan: Arc<Plan>,
    pub input: Receiver<RecordBatch>,
    pub output: Sender<RowBatch>,
    pub board: Board,
    /// Where polled records can be looked at.
    pub tap: StreamTap,
    pub metrics: StreamMetrics,
    /// What waits for the decoders, and what for the writers.
    pub queue_in: QueueMetrics,
    pub queue_out: QueueMetrics,
}

impl Decoder {
    pub fn new(settings: DecoderSettings, guard: ExitGuard) -> Self {
        Self {
            stream: settings.stream,
            plan: settings.plan,
            order: FieldOrder::default(),
            input: Some(settings.input),
            output: settings.output,
            board: settings.board,
            tap: settings.tap,
            blocked: settings.metrics.blocked_seconds("decoder"),
            metrics: settings.metrics,
            queue_in: settings.queue_in,
            queue_out: settings.queue_out,
            guard,
        }
    }

    fn count_unknown_fields(&mut self) {
        for (field, records) in self.order.take_unknown() {
            self.metrics.unknown_fields.inc_by(records);
            self.board.unknown_field(&self.stream, &field, records);
        }
    }
}

/// Decodes a whole batch.
pub fn decode_batch(plan: &Plan, order: &mut FieldOrder, mut source: RecordBatch) -> RowBatch {
    // Each record makes at most a row of each mapping; most tables have one.
    let mut tables: Vec<TableRows> =
        plan.targets.iter().map(|target| TableRows::with_room(source.records.len(), target.columns.len())).collect();
    let mut rejected = Vec::new();
    let mut decoder = RecordDecoder::new(plan, order, &source.bytes);
    for (index, record) in source.records.iter().enumerate() {
        let envelope = Envelope {
            index: index as u32,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(|span| span.of(&source.bytes)),
            payload: record.payload.map(|span| span.of(&source.bytes)),
            oversize: record.oversize,
        };
        if let Err(rejection) = decoder.decode(&envelope, &mut tables) {
            rejected.push((index as u32, rejection));
        }
    }
    let extra = decoder.into_extra();
    source.bytes.extend_from_slice(&extra);
    if let Some(permit) = &mut source.permit {
        permit.grow(REJECTION * rejected.len() as u64);
    }
    RowBatch { source, tables, rejected }
}

impl Actor for Decoder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(input) = self.input.take() {
            ctx.add_stream(ReceiverStream::new(input));
        }
    }
}

impl StreamHandler<RecordBatch> for Decoder {
    fn handle(&mut self, batch: RecordBatch, ctx: &mut Self::Context) {
        crate::failpoint!("before-decode", |error| {
            self.guard.fail(error, false);
            return ctx.stop();
        });
        let records = batch.records.len();
        self.queue_in.left(records);
        self.tap.polled(&batch);
        let rows = decode_batch(&self.plan, &mut self.order, batch);
        self.count_unknown_fields();
        crate::failpoint!("after-decode", |error| {
            self.guard.fail(error, false);
            return ctx.stop();
        });
        let (output, cancelled) = (self.output.clone(), self.guard.cancelled().clone());
        let began = Instant::now();
        let sent = async move {
            tokio::select! {
                biased;
                sent = output.send(rows) => sent.is_ok(),
                () = cancelled.cancelled() => false,
            }
        };
        ctx.wait(sent.into_actor(self).map(move |sent, actor, ctx| {
            actor.blocked.inc_by(began.elapsed().as_secs_f64());
            if sent {
                actor.queue_out.entered(records);
            } else {
                actor.guard.fail("the writer is gone", false);
                ctx.stop();
            }
        }));
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        self.guard.finish();
        ctx.stop();
    }
}
