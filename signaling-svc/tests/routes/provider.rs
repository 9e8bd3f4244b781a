//! A phone provider's API as a server on a free port: notes what it is asked and answers as scripted. Its answers name
//! the new call in every provider's place at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use service_kit::tasks::TaskScope;

/// What one request is answered.
#[derive(Debug, Clone, Copy)]
pub enum Say {
    /// This status; with `Retry-After` in seconds where there is one.
    Status(u16, Option<u32>),
    /// Nothing at all.
    Nothing,
}

pub struct Provider {
    pub url: String,
    state: Arc<Scripted>,
    scope: TaskScope,
}

#[derive(Default)]
struct Scripted {
    script: Mutex<VecDeque<Say>>,
    asked: Mutex<Vec<String>>,
}

impl Provider {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Scripted>::default();
        let router = Router::new().fallback(answer).with_state(state.clone());
        let scope = TaskScope::root("provider");
        let cancelled = scope.token().cancelled_owned();
        scope.spawn("provider", async move {
            let serving = axum::serve(listener, router).into_future();
            tokio::select! {
                _ = serving => {}
                () = cancelled => {}
            }
        });
        Self { url, state, scope }
    }

    pub fn next(&self, say: Say) {
        self.state.script.lock().unwrap().push_back(say);
    }

    /// Bodies of all requests so far, with slashes and signs as they are.
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

async fn answer(State(state): State<Arc<Scripted>>, request: Request) -> Response {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    // JSON has no percent signs of its own here.
    let text = form_urlencoded::parse(format!("x={}", text.replace('&', "\n")).as_bytes())
        .next()
        .unwrap()
        .1
        .into_owned();
    state.asked.lock().unwrap().push(text);
    let say = state.script.lock().unwrap().pop_front();
    match say {
        None => axum::Json(named("out-1")).into_response(),
        Some(Say::Status(status, retry_after)) => {
            let status = axum::http::StatusCode::from_u16(status).unwrap();
            let mut response = (status, axum::Json(json!({"message": "no"}))).into_response();
            if let Some(seconds) = retry_after {
                response.headers_mut().insert("retry-after", seconds.into());
            }
            response
        }
        Some(Say::Nothing) => std::future::pending().await,
    }
}

fn named(id: &str) -> Value {
    json!({
        "sid": id, "request_uuid": id, "uuid": id,
        "data": {"call_control_id": id},
        "Call": {"Sid": id},
    })
}
