//! One stage of an agent on a scripted server.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use media_core::conversation::{Input, LlmEvent, Message, ReplyId, SpeechId, SttEvent, Tool, TtsEvent, UtteranceId};
use media_svc::providers::{self, CallContext, LlmRequest, Providers, SpeechRequest, SttCommand};
use serde_json::json;
use service_kit::config::{self, Config, Profile, Secret, Sources};
use service_kit::tasks::{AbortOnDrop, TaskScope};
use tokio::sync::mpsc;
use voxray_testkit::openai::OpenAiServer;

/// A provider that says nothing within this has hung; the tests themselves never wait for it.
const HANG: Duration = Duration::from_secs(60);
pub const REPLY: ReplyId = ReplyId(1);
pub const SPEECH: SpeechId = SpeechId(1);
pub const UTTERANCE: UtteranceId = UtteranceId(1);

/// Configuration for a test: every stage on this server, metrics under a name of its own.
pub fn config(base_url: &str, name: &str, more: &[(&str, &str)]) -> Config {
    let usual = [
        ("provider", "openai"),
        ("openai.base_url", base_url),
        ("model", name),
        ("stt_model", name),
        ("tts_model", name),
    ];
    let flags = usual.iter().chain(more);
    let sources = Sources {
        flags: flags
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Sources::default()
    };
    config::load(&sources, Profile::SingleProcess).unwrap().config
}

/// Puts a key in place, as SIGHUP does.
pub fn set_key(config: &Config, key: &str) {
    let keys = BTreeMap::from([("openai".to_owned(), Secret::new(key))]);
    config.secrets.replace(keys, Vec::new());
}

/// One call's stages.
pub struct Agent {
    pub config: Config,
    pub name: String,
    providers: Providers,
    pub scope: TaskScope,
    events: mpsc::Sender<Input>,
    inbox: mpsc::Receiver<Input>,
}

impl Agent {
    pub async fn new(server: &OpenAiServer, name: &str) -> Self {
        Self::with(config(&server.base_url(), name, &[]), name).await
    }

    pub async fn with(config: Config, name: &str) -> Self {
        let providers = providers::build(&config).await.unwrap().providers;
        let (events, inbox) = mpsc::channel(256);
        Self {
            config,
            name: name.to_owned(),
            providers,
            scope: TaskScope::root("test"),
            events,
            inbox,
        }
    }

    fn call(&self) -> CallContext {
        CallContext {
            session_id: "s".into(),
            tasks: self.scope.clone(),
            events: self.events.clone(),
        }
    }

    pub fn ask(&self) -> AbortOnDrop {
        self.ask_with(vec![Message::User("Hello?".to_owned())])
    }

    pub fn ask_with(&self, messages: Vec<Message>) -> AbortOnDrop {
        let tools = vec![Tool {
            name: "end_call".to_owned(),
            description: "Ends the call.".to_owned(),
            parameters: json!({"type": "object"}),
            after_speech: false,
        }];
        let request = LlmRequest {
            reply: REPLY,
            messages,
            tools,
        };
        self.providers.llm.generate(self.call(), request)
    }

    pub fn say(&self, text: &str) -> AbortOnDrop {
        let request = SpeechRequest {
            speech: SPEECH,
            text: text.to_owned(),
            sample_rate_hz: 8_000,
        };
        self.providers.tts.speak(self.call(), request)
    }

    pub fn listen(&self) -> mpsc::Sender<SttCommand> {
        self.providers.stt.start(self.call())
    }

    /// Lets recognition hear one whole utterance.
    pub async fn hear(&self, samples: Vec<i16>) -> mpsc::Sender<SttCommand> {
        let stt = self.listen();
        for command in [
            SttCommand::Begin(UTTERANCE),
            SttCommand::Audio(UTTERANCE, samples),
            SttCommand::End(UTTERANCE),
        ] {
            stt.send(command).await.unwrap();
        }
        stt
    }

    pub async fn next(&mut self) -> Input {
        let next = tokio::time::timeout(HANG, self.inbox.recv()).await;
        next.expect("the provider hangs").unwrap()
    }

    pub async fn next_llm(&mut self) -> LlmEvent {
        match self.next().await {
            Input::Llm(REPLY, event) => event,
            other => panic!("unexpected {other:?}"),
        }
    }

    pub async fn next_tts(&mut self) -> TtsEvent {
        match self.next().await {
            Input::Tts(SPEECH, event) => event,
            other => panic!("unexpected {other:?}"),
        }
    }

    pub async fn next_stt(&mut self) -> SttEvent {
        match self.next().await {
            Input::Stt(UTTERANCE, event) => event,
            other => panic!("unexpected {other:?}"),
        }
    }

    /// A whole reply: its text, and what came after the text.
    pub async fn reply(&mut self) -> (String, Vec<LlmEvent>) {
        let (mut said, mut rest) = (String::new(), Vec::new());
        loop {
            match self.next_llm().await {
                LlmEvent::Text(text) => said.push_str(&text),
                event @ LlmEvent::ToolCall(_) => rest.push(event),
                event @ (LlmEvent::Done | LlmEvent::Failed(_)) => {
                    rest.push(event);
                    return (said, rest);
                }
            }
        }
    }

    /// A whole piece of speech, and how it ended.
    pub async fn speech(&mut self) -> (Vec<i16>, TtsEvent) {
        let mut audio = Vec::new();
        loop {
            match self.next_tts().await {
                TtsEvent::Audio(samples) => audio.extend(samples),
                event @ (TtsEvent::Done | TtsEvent::Failed(_)) => return (audio, event),
            }
        }
    }

    /// Waits until nothing runs any more; what else was reported until then.
    pub async fn ended(mut self) -> Vec<Input> {
        self.scope.cancel();
        self.scope.join().await;
        let mut more = Vec::new();
        while let Ok(input) = self.inbox.try_recv() {
            more.push(input);
        }
        more
    }

    /// A counter of this test's own model; 0 when it was never counted.
    pub fn counted(&self, metric: &str, error_type: Option<&str>) -> u64 {
        let model = format!("model=\"{}\"", self.name);
        let kind = error_type.map(|kind| format!("error_type=\"{kind}\""));
        let text = service_kit::metrics::render();
        let lines = text
            .lines()
            .filter(|line| line.starts_with(&format!("{metric}{{")) && line.contains(&model))
            .filter(|line| kind.as_ref().is_none_or(|kind| line.contains(kind)));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

/// The words of a failure.
pub fn failure(input: Input) -> String {
    match input {
        Input::Llm(REPLY, LlmEvent::Failed(why))
        | Input::Tts(SPEECH, TtsEvent::Failed(why))
        | Input::Stt(UTTERANCE, SttEvent::Failed(why)) => why,
        other => panic!("unexpected {other:?}"),
    }
}

/// A person who speaks: mono 8 kHz.
pub fn recording(file: &str) -> Vec<i16> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/speech")
        .join(file);
    voxray::wav::read_file(&path).unwrap()
}

/// The frequency of a pure tone, by its zero crossings.
pub fn frequency(samples: &[i16], rate_hz: u32) -> f64 {
    let crossings = samples.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
    crossings as f64 / 2.0 * f64::from(rate_hz) / samples.len() as f64
}
