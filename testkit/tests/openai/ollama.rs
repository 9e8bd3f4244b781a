//! The hint for people who have an Ollama.

use std::net::Ipv4Addr;

use axum::Router;
use axum::routing::get;
use service_kit::tasks::TaskScope;
use voxray::ollama::suggestion;

/// A server that answers `/api/tags` with this until the scope ends; its address.
async fn answering(scope: &TaskScope, body: &'static str) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/api/tags", get(move || async move { body }));
    let stopped = scope.token();
    scope.spawn("ollama", async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            _ = axum::serve(listener, router) => {}
        }
    });
    address
}

#[tokio::test]
async fn an_ollama_with_a_model_is_offered_with_the_options_that_use_it() {
    let scope = TaskScope::root("test");
    let tags =
        r#"{"models": [{"name": "nomic-embed-text:latest"}, {"name": "llama3.2:3b", "size": 1}, {"name": "x"}]}"#;
    let address = answering(&scope, tags).await;

    let options = suggestion(&address).await.unwrap();

    let expected = format!("--set llm_provider=openai --set openai.base_url={address}/v1 --set model=llama3.2:3b");
    assert_eq!(options, expected);
    scope.cancel();
}

#[tokio::test]
async fn nothing_is_said_of_an_ollama_without_models_or_of_another_server() {
    let scope = TaskScope::root("test");
    for body in [
        r#"{"models": []}"#,
        "<html>",
        r#"{"models": [{"name": "x; rm -rf ~"}]}"#,
    ] {
        let address = answering(&scope, body).await;
        assert_eq!(suggestion(&address).await, None, "{body}");
    }
    scope.cancel();
}

#[tokio::test]
async fn nothing_is_said_where_nobody_answers() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // It accepts connections and says nothing.
    let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    assert_eq!(suggestion(&address).await, None);

    drop(silent);
    assert_eq!(suggestion(&address).await, None);
}
