//! Tool calls, put together from the pieces of a streamed reply.

use media_core::conversation::ToolCall;
use serde::Deserialize;

use super::error::OpenAiError;

/// Longest arguments of one call, bytes; no tool takes a book.
const LONGEST_ARGUMENTS: usize = 256 * 1024;
/// Most calls in one reply.
const MOST_CALLS: usize = 64;

/// A piece of a call.
#[derive(Deserialize)]
pub(super) struct CallDelta {
    #[serde(default)]
    index: usize,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

/// Calls in the order in which they began.
#[derive(Default)]
pub(super) struct ToolCalls(Vec<(usize, ToolCall)>);

impl ToolCalls {
    /// Takes the pieces of one chunk.
    ///
    /// # Errors
    /// More or longer calls than any agent makes.
    pub(super) fn add(&mut self, pieces: Vec<CallDelta>) -> Result<(), OpenAiError> {
        for piece in pieces {
            let call = self.call_of(&piece);
            if let Some(id) = piece.id.filter(|_| call.id.is_empty()) {
                call.id = id;
            }
            if let Some(function) = piece.function {
                // Some servers repeat the name in every piece.
                let name = function.name.unwrap_or_default();
                if name != call.name {
                    call.name.push_str(&name);
                }
                call.arguments
                    .push_str(function.arguments.as_deref().unwrap_or_default());
            }
            if call.arguments.len() > LONGEST_ARGUMENTS || self.0.len() > MOST_CALLS {
                return Err(OpenAiError::Malformed("tool calls without an end".to_owned()));
            }
        }
        Ok(())
    }

    /// The call that a piece belongs to: by index; but a new id begins a new call, as some servers number all with 0.
    fn call_of(&mut self, piece: &CallDelta) -> &mut ToolCall {
        let is_other = |call: &ToolCall| match piece.id.as_deref() {
            None | Some("") => false,
            Some(id) => !call.id.is_empty() && call.id != id,
        };
        let known = self
            .0
            .iter()
            .rposition(|(index, call)| *index == piece.index && !is_other(call));
        let at = known.unwrap_or_else(|| {
            let empty = ToolCall {
                id: String::new(),
                name: String::new(),
                arguments: String::new(),
            };
            self.0.push((piece.index, empty));
            self.0.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "found or pushed just now")]
        &mut self.0[at].1
    }

    /// Every call that has a name. One without an id gets one: its answer has to name it.
    pub(super) fn finish(self) -> impl Iterator<Item = ToolCall> {
        self.0
            .into_iter()
            .map(|(_, call)| call)
            .filter(|call| !call.name.is_empty())
            .map(|mut call| {
                if call.id.is_empty() {
                    call.id = format!("call_{}", uuid::Uuid::new_v4().simple());
                }
                call
            })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn assembled(pieces: Value) -> Vec<ToolCall> {
        let mut calls = ToolCalls::default();
        for piece in pieces.as_array().unwrap() {
            calls.add(vec![serde_json::from_value(piece.clone()).unwrap()]).unwrap();
        }
        calls.finish().collect()
    }

    fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
        }
    }

    #[test]
    fn pieces_of_several_calls_may_alternate() {
        let calls = assembled(json!([
            {"index": 0, "id": "a", "function": {"name": "look_up", "arguments": ""}},
            {"index": 1, "id": "b", "function": {"name": "end_call", "arguments": "{}"}},
            {"index": 0, "function": {"arguments": "{\"q\":"}},
            {"index": 0, "function": {"arguments": "1}"}},
        ]));
        assert_eq!(calls, [call("a", "look_up", "{\"q\":1}"), call("b", "end_call", "{}")]);
    }

    #[test]
    fn a_new_id_begins_a_new_call_even_under_the_same_number() {
        let calls = assembled(json!([
            {"index": 0, "id": "a", "function": {"name": "x", "arguments": "{}"}},
            {"index": 0, "id": "b", "function": {"name": "x", "arguments": "{}"}},
        ]));
        assert_eq!(calls, [call("a", "x", "{}"), call("b", "x", "{}")]);
    }

    #[test]
    fn what_a_server_repeats_is_taken_once() {
        let calls = assembled(json!([
            {"index": 0, "id": "a", "function": {"name": "x", "arguments": "{"}},
            {"index": 0, "id": "a", "function": {"name": "x", "arguments": "}"}},
        ]));
        assert_eq!(calls, [call("a", "x", "{}")]);
    }

    #[test]
    fn a_call_without_an_id_gets_one_of_its_own() {
        let pieces = json!([{"function": {"name": "x"}}]);
        let (first, second) = (assembled(pieces.clone()), assembled(pieces));
        assert!(!first[0].id.is_empty() && first[0].id != second[0].id);
    }

    #[test]
    fn arguments_without_an_end_are_refused() {
        let mut calls = ToolCalls::default();
        let piece = json!({"function": {"name": "x", "arguments": "y".repeat(LONGEST_ARGUMENTS + 1)}});
        assert!(calls.add(vec![serde_json::from_value(piece).unwrap()]).is_err());
    }
}
