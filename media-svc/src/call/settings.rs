//! From configuration to how one conversation behaves.

use std::time::Duration;

use media_core::conversation::{Screening, Settings};
use media_core::dialogue;
use serde_json::Value;
use service_kit::config::{Config, InterruptionStrategy};

use super::TransportTraits;
use super::phone::PhoneLine;
use super::tools;

const DEFAULT_PROMPT: &str = "You are a helpful voice agent on a phone call. Answer in one to three short spoken \
    sentences, without lists, markup or emoji. When the caller says goodbye, say goodbye and call end_call.";

/// Settings of a conversation over this transport; `body` fills `{{name}}` in prompt and greeting. With a phone `line`
/// the agent may steer it.
pub fn conversation_settings(
    config: &Config,
    transport: TransportTraits,
    body: &Value,
    line: Option<&PhoneLine>,
) -> Settings {
    // A telephone runs no tools.
    let at_client = if line.is_none() {
        tools::at_client(body)
    } else {
        Vec::new()
    };
    let agent = &config.agent;
    let turn = &config.turn;
    let greeting = agent.greeting.as_deref().unwrap_or(dialogue::GREETING);
    let prompt = agent.system_prompt.as_deref().unwrap_or(DEFAULT_PROMPT);
    Settings {
        output_rate_hz: transport.output_rate_hz,
        far_end_marks: transport.echoes_marks,
        playout_lead: transport.playout_lead,
        greeting: Some(fill_in(greeting, body)).filter(|text| !text.trim().is_empty()),
        system_prompt: fill_in(prompt, body),
        tools: tools::offered(line).into_iter().chain(at_client).collect(),
        screening: line.and_then(|_| screening(config, body)),
        vad_confidence: narrow(turn.vad_confidence),
        vad_min_volume: narrow(turn.vad_min_volume),
        vad_start: seconds(turn.vad_start_secs),
        vad_stop: seconds(turn.vad_stop_secs),
        turn_stop: seconds(turn.stop_secs),
        pre_speech: Duration::from_millis(turn.pre_speech_ms),
        turn_max: seconds(turn.max_duration_secs),
        no_audio_turn_stop: seconds(turn.user_turn_stop_timeout_secs),
        idle_prompt_after: Some(seconds(turn.user_idle_timeout_secs)).filter(|after| !after.is_zero()),
        allow_interruptions: turn.allow_interruptions,
        interrupt_min_words: match turn.interruption_strategy {
            InterruptionStrategy::MinWords => turn.min_words,
            // Keywords are refused when the configuration is read.
            InterruptionStrategy::None | InterruptionStrategy::Keyword => 0,
        },
    }
}

/// A call that we have placed is screened, unless whoever placed it does not want that: the session's body says
/// `"direction": "outbound"`, and perhaps `"machineDetection": false`.
fn screening(config: &Config, body: &Value) -> Option<Screening> {
    let outbound = body.get("direction").and_then(Value::as_str) == Some("outbound");
    let wanted = body.get("machineDetection").and_then(Value::as_bool);
    let message = config.telephony.voicemail_message.as_deref();
    (outbound && wanted.unwrap_or(config.telephony.machine_detection)).then(|| Screening {
        voicemail_message: message.map(|message| fill_in(message, body)),
    })
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a probability; single precision is plenty"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// Replaces `{{name}}` by the body's top-level text, number or truth value of that name; unknown names stay visible.
fn fill_in(template: &str, body: &Value) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((name, after)) = after.split_once("}}") else {
            filled.push_str("{{");
            rest = after;
            continue;
        };
        match body.get(name.trim()) {
            Some(Value::String(text)) => filled.push_str(text),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => filled.push_str(&value.to_string()),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => {
                filled.push_str("{{");
                filled.push_str(name);
                filled.push_str("}}");
            }
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_session_body_fills_in_names() {
        let body = json!({"name": "Ada", "n": 3, "list": []});
        assert_eq!(
            fill_in("Hi {{ name }}, {{n}} of {{list}} {{x}} {{", &body),
            "Hi Ada, 3 of {{list}} {{x}} {{"
        );
    }
}
