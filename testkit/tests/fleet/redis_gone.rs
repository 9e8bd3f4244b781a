//! Redis is killed under running calls and comes back empty.

use std::time::Instant;

use crate::load::{self, Load};
use crate::scale;
use crate::store::{self, Silent};

const CALLERS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_outlive_redis_and_everything_is_there_again_when_it_comes_back_empty() {
    let _turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let builder = load::builder(&agent)
        .media(2)
        .env("VOXRAY_LIMITS_SESSIONS_PER_KEY", "100");
    let mut stack = load::start(builder).await;
    let calls = Load::of(&stack, CALLERS).await;
    let client = Silent::connect(&stack.signaling[0].url()).await;

    stack.redis.stop();

    store::assert_refuses(&stack).await;

    stack.redis.restart_on_same_port().await.unwrap();
    let back = Instant::now();

    store::assert_right_again(&stack, back, &client, async || {
        Ok(!keys(stack.redis.port(), "voxray:{s*}:holder:*").await?.is_empty())
    })
    .await;
    client.close().await;
    store::assert_nobody_noticed(&stack, calls).await;
}

async fn keys(port: u16, pattern: &str) -> anyhow::Result<Vec<String>> {
    let client = redis::Client::open(("127.0.0.1", port))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    Ok(redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await?)
}
