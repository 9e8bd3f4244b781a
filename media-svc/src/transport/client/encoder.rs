//! What the call tells its client, as messages of the socket's dialect.

use axum::extract::ws::Message;
use media_core::wire::client::{self, Outbound};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::on_the_wire;
use crate::call::CallerCommand;
use crate::transport::writer::Encode;

/// Writes one dialect.
pub struct Encoder {
    outbound: Outbound,
    /// Kept, so that it is not allocated for every notice.
    messages: Vec<client::Message>,
}

impl Encoder {
    /// For this socket.
    pub fn new(outbound: Outbound) -> Self {
        Self {
            outbound,
            messages: Vec::new(),
        }
    }
}

impl Encode for Encoder {
    type Reply = client::Message;

    fn encode(&mut self, command: CallerCommand, out: &mut Vec<Message>) {
        match command {
            CallerCommand::Audio(samples) => out.push(on_the_wire(self.outbound.audio(&samples))),
            CallerCommand::Notice(notice) => {
                let timestamp = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
                self.outbound.notice(notice, &timestamp, &mut self.messages);
            }
            CallerCommand::Close(reason) => self.outbound.end(&reason, &mut self.messages),
            // No client's player knows either; pacing keeps what it holds short.
            CallerCommand::Mark(_) | CallerCommand::Clear => {}
        }
        out.extend(self.messages.drain(..).map(on_the_wire));
    }

    fn reply(&mut self, reply: client::Message, out: &mut Vec<Message>) {
        out.push(on_the_wire(reply));
    }
}
