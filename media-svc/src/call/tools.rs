//! The tools with which an agent steers its call, and what it may ask of them.

use std::time::Duration;

use media_core::conversation::{KeyPlan, Tool, ToolCall};
use media_core::dialogue::{END_CALL_TOOL as END_CALL, TRANSFER_TOOL as TRANSFER_CALL};
use serde::Deserialize;
use serde_json::{Value, json};

use super::phone::PhoneLine;

const SEND_DTMF: &str = "send_dtmf";
const COLLECT_DTMF: &str = "collect_dtmf";

/// Digits that are enough when the model does not say.
const USUAL_DIGITS: usize = 32;
/// Longest input; nobody has a longer number.
const MOST_DIGITS: usize = 64;
const USUAL_TIMEOUT_SECS: f64 = 10.0;
/// Tools that a client may bring; models lose their way among more.
const MOST_CLIENT_TOOLS: usize = 32;
const LONGEST_TIMEOUT_SECS: f64 = 60.0;

/// The tools of a call: ending it always, the rest where there is a telephone at the far end.
pub fn offered(line: Option<&PhoneLine>) -> Vec<Tool> {
    let mut tools = vec![tool(
        END_CALL,
        "Ends the call after what you have just said was heard. Say goodbye first.",
        json!({}),
        &[],
        false,
    )];
    let Some(line) = line else { return tools };
    let to = line.destinations();
    if !to.is_empty() {
        let number =
            json!({ "to": { "type": "string", "enum": to, "description": "Where to; the first if left out." } });
        let description = "Transfers the caller to a person. Say first that you are putting them through.";
        tools.push(tool(TRANSFER_CALL, description, number, &[], true));
    }
    let digits = json!({ "digits": { "type": "string", "pattern": "^[0-9*#A-D]{1,64}$" } });
    let description = "Presses telephone keys for the other side, for example in a voice menu.";
    tools.push(tool(SEND_DTMF, description, digits, &["digits"], true));
    let plan = json!({
        "max_digits": { "type": "integer", "minimum": 1, "maximum": MOST_DIGITS, "description": "Digits that are enough." },
        "terminator": { "type": "string", "enum": ["#", "*", ""], "description": "Key that ends the input; # if left out." },
        "timeout": { "type": "number", "maximum": LONGEST_TIMEOUT_SECS, "description": "Longest pause in seconds; 10 if left out." },
    });
    let description =
        "Waits for keys that the caller presses and answers with the digits. Ask for them in the same reply.";
    tools.push(tool(COLLECT_DTMF, description, plan, &[], false));
    tools
}

/// The tools that a client runs itself: `"tools": [{"name", "description", "parameters"}]` of the session's body, with a
/// JSON Schema each. What has no usable name, or the name of one of ours, is left out.
pub fn at_client(body: &Value) -> Vec<Tool> {
    #[derive(Deserialize)]
    struct Offer {
        name: String,
        #[serde(default)]
        description: String,
        #[serde(default)]
        parameters: Value,
    }
    let offers = body.get("tools").and_then(Value::as_array);
    let usable = |offer: &Offer| {
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        (1..=64).contains(&offer.name.len()) && offer.name.chars().all(letters) && offer.name != END_CALL
    };
    let offers = offers
        .into_iter()
        .flatten()
        .filter_map(|offer| Offer::deserialize(offer).ok());
    let tools = offers.filter(usable).map(|offer| Tool {
        name: offer.name,
        description: offer.description,
        parameters: match offer.parameters {
            schema @ Value::Object(_) => schema,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                json!({ "type": "object", "properties": {} })
            }
        },
        after_speech: false,
    });
    tools.take(MOST_CLIENT_TOOLS).collect()
}

fn tool(name: &str, description: &str, properties: serde_json::Value, required: &[&str], after_speech: bool) -> Tool {
    Tool {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters: json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        }),
        after_speech,
    }
}

/// What the agent wants.
#[derive(Debug, PartialEq)]
pub enum Wish {
    /// End the call.
    End,
    /// Transfer it there.
    Transfer(String),
    /// Press these keys.
    SendDtmf(String),
    /// Wait for keys.
    Collect(KeyPlan),
    /// Have the client run it.
    AtClient,
    /// Nothing that can be done, in words for the model.
    Refused(String),
}

#[derive(Deserialize, Default)]
struct Arguments {
    to: Option<String>,
    digits: Option<String>,
    max_digits: Option<usize>,
    terminator: Option<String>,
    timeout: Option<f64>,
}

impl Wish {
    /// Reads a tool call. What is not on offer is refused: a model may name any tool and any number.
    pub fn read(call: &ToolCall, line: Option<&PhoneLine>, tools: &[Tool]) -> Self {
        let arguments = match call.arguments.trim() {
            "" => Ok(Arguments::default()),
            text => serde_json::from_str(text),
        };
        let Ok(arguments) = arguments else {
            return Self::Refused(format!("error: the arguments of {} are not what it takes", call.name));
        };
        let unknown = || Self::Refused(format!("error: there is no tool named {}", call.name));
        match (call.name.as_str(), line) {
            (END_CALL, _) => Self::End,
            (TRANSFER_CALL, Some(line)) => transfer(arguments, line.destinations()).unwrap_or_else(unknown),
            (SEND_DTMF, Some(_)) => match arguments.digits.filter(|digits| carriers::is_digits(digits)) {
                Some(digits) => Self::SendDtmf(digits),
                None => Self::Refused("error: digits are 0-9, *, # and A-D, at most 64".to_owned()),
            },
            (COLLECT_DTMF, Some(_)) => Self::Collect(plan(&arguments)),
            // What is on offer and is none of ours is the client's.
            (name, None) if tools.iter().any(|tool| tool.name == name) => Self::AtClient,
            _ => unknown(),
        }
    }
}

fn transfer(arguments: Arguments, destinations: &[String]) -> Option<Wish> {
    let first = destinations.first()?;
    let to = arguments.to.filter(|to| !to.trim().is_empty());
    Some(match to {
        None => Wish::Transfer(first.clone()),
        Some(to) if destinations.contains(&to) => Wish::Transfer(to),
        Some(_) => Wish::Refused("error: this call cannot be transferred there".to_owned()),
    })
}

fn plan(arguments: &Arguments) -> KeyPlan {
    let timeout = arguments
        .timeout
        .filter(|secs| *secs > 0.0)
        .unwrap_or(USUAL_TIMEOUT_SECS);
    let terminator = arguments.terminator.as_deref().unwrap_or("#");
    KeyPlan {
        max_digits: arguments.max_digits.unwrap_or(USUAL_DIGITS).clamp(1, MOST_DIGITS),
        terminator: terminator.chars().next(),
        timeout: Duration::from_secs_f64(timeout.min(LONGEST_TIMEOUT_SECS)),
    }
}

#[cfg(test)]
mod tests {
    use carriers::Carriers;
    use proptest::prelude::*;
    use service_kit::config::{Profile, Sources, load};

    use super::*;

    fn line(provider: &str, transfer_to: &[&str]) -> PhoneLine {
        let keys = [
            ("twilio.account_sid", "AC1"),
            ("api_keys.twilio", "t"),
            ("exotel.account_sid", "E"),
            ("exotel.api_key", "k"),
            ("api_keys.exotel", "t"),
        ];
        let sources = Sources {
            flags: keys.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..Sources::default()
        };
        let config = load(&sources, Profile::SingleProcess).unwrap().config;
        let carriers = Carriers::from_config(&config).unwrap();
        let to = transfer_to.iter().map(|&to| to.to_owned()).collect();
        PhoneLine::new(carriers, provider.to_owned(), "CA1".to_owned(), to)
    }

    fn names(line: Option<&PhoneLine>) -> Vec<String> {
        offered(line).into_iter().map(|tool| tool.name).collect()
    }

    fn read(line: Option<&PhoneLine>, name: &str, arguments: &str) -> Wish {
        let call = ToolCall {
            id: "1".to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        Wish::read(&call, line, &at_client(&json!({"tools": [{"name": "weather"}]})))
    }

    #[test]
    fn only_what_the_far_end_can_do_is_offered() {
        assert_eq!(names(None), ["end_call"]);
        let twilio = line("twilio", &["+1415"]);
        assert_eq!(
            names(Some(&twilio)),
            ["end_call", "transfer_call", "send_dtmf", "collect_dtmf"]
        );
        let no_target = line("twilio", &[]);
        assert_eq!(names(Some(&no_target)), ["end_call", "send_dtmf", "collect_dtmf"]);
        let exotel = line("exotel", &["+1415"]);
        assert_eq!(names(Some(&exotel)), ["end_call", "send_dtmf", "collect_dtmf"]);
        let not_configured = line("telnyx", &["+1415"]);
        assert_eq!(names(Some(&not_configured)), ["end_call", "send_dtmf", "collect_dtmf"]);
    }

    #[test]
    fn a_client_s_tools_are_offered_as_far_as_they_can_be_named() {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let body = json!({"tools": [
            {"name": "weather", "description": "Weather", "parameters": schema},
            {"name": "bare"},
            {"name": END_CALL},
            {"name": "two words"},
            {"name": ""},
            {"description": "no name"},
            "junk",
        ]});
        let tools = at_client(&body);
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["weather", "bare"]);
        assert_eq!(tools[0].parameters, schema);
        assert_eq!(tools[1].parameters["type"], "object");
        let many: Vec<Value> = (0..100).map(|number| json!({"name": format!("t{number}")})).collect();
        assert_eq!(at_client(&json!({"tools": many})).len(), MOST_CLIENT_TOOLS);
        assert!(at_client(&json!({"tools": "weather"})).is_empty() && at_client(&Value::Null).is_empty());
        assert_eq!(read(None, "weather", "{}"), Wish::AtClient);
        assert!(matches!(
            read(Some(&line("twilio", &[])), "weather", "{}"),
            Wish::Refused(_)
        ));
    }

    #[test]
    fn a_call_is_transferred_nowhere_that_the_operator_has_not_named() {
        let line = line("twilio", &["+1415", "sip:desk@example.com"]);
        assert_eq!(
            read(Some(&line), "transfer_call", ""),
            Wish::Transfer("+1415".to_owned())
        );
        let desk = Wish::Transfer("sip:desk@example.com".to_owned());
        assert_eq!(
            read(Some(&line), "transfer_call", r#"{"to": "sip:desk@example.com"}"#),
            desk
        );
        assert!(matches!(
            read(Some(&line), "transfer_call", r#"{"to": "+1900"}"#),
            Wish::Refused(_)
        ));
        assert!(matches!(read(None, "transfer_call", "{}"), Wish::Refused(_)));
    }

    #[test]
    fn arguments_are_taken_as_models_write_them_and_kept_within_bounds() {
        let line = line("twilio", &[]);
        let collect = |arguments| read(Some(&line), "collect_dtmf", arguments);
        let usual = KeyPlan {
            max_digits: 32,
            terminator: Some('#'),
            timeout: Duration::from_secs(10),
        };
        assert_eq!(collect("{}"), Wish::Collect(usual.clone()));
        let asked = r#"{"max_digits": 1000, "terminator": "", "timeout": 1e9}"#;
        let bounded = KeyPlan {
            max_digits: 64,
            terminator: None,
            timeout: Duration::from_secs(60),
        };
        assert_eq!(collect(asked), Wish::Collect(bounded));
        assert_eq!(collect(r#"{"timeout": -1}"#), Wish::Collect(usual));
        assert!(matches!(collect("not JSON"), Wish::Refused(_)));
        assert!(matches!(
            read(Some(&line), "send_dtmf", r#"{"digits": "1x"}"#),
            Wish::Refused(_)
        ));
        assert_eq!(
            read(Some(&line), "send_dtmf", r#"{"digits": "1#"}"#),
            Wish::SendDtmf("1#".to_owned())
        );
        assert!(matches!(read(Some(&line), "rm", "{}"), Wish::Refused(_)));
    }

    /// Any JSON, to some depth.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z_]{0,70}|.{0,10}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 40, 6, |inner| {
            let key = prop_oneof![
                Just("tools".to_owned()),
                Just("name".to_owned()),
                Just("description".to_owned()),
                Just("parameters".to_owned()),
                "[a-z]{0,6}",
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(key, inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_client_brings_becomes_usable_tools_or_none(body in any_json(), tools in any_json()) {
            for body in [body, json!({ "tools": tools })] {
                let tools = at_client(&body);
                prop_assert!(tools.len() <= MOST_CLIENT_TOOLS);
                for tool in tools {
                    prop_assert!((1..=64).contains(&tool.name.len()) && tool.parameters.is_object());
                }
            }
        }
    }
}
