//! One deployment, used and watched.

use std::collections::BTreeSet;
use std::time::Instant;

use reqwest::Method;
use serde_json::json;
use voxray_testkit::api;
use voxray_testkit::servers::{Prometheus, promtool};
use voxray_testkit::wait::eventually;

use crate::autoscaler;
use crate::client::{Browser, LIMIT, http};
use crate::contract::documented;
use crate::dashboards;
use crate::lines;
use crate::rules;
use crate::scene::Scene;
use crate::scraper::Scraper;
use crate::traces;

/// Metrics that stay as they are in this scene, and why.
const STILL: [(&str, &str); 8] = [
    ("voxray_up", "says that the process runs"),
    ("voxray_build_info", "says what runs"),
    (
        "voxray_sessions_capacity",
        "is measured, which this stack does not do; fleet/capacity.rs does",
    ),
    ("voxray_draining", "moves when the node goes: last of all"),
    ("voxray_task_panics_total", "needs a defect"),
    ("stt_fallback_total", "fallback.stt is refused by this release"),
    ("llm_fallback_total", "fallback.llm is refused by this release"),
    ("tts_fallback_total", "fallback.tts is refused by this release"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_is_used_shows_everything_that_is_documented() {
    let began = Instant::now();
    let scene = Scene::start().await;
    println!("{:?}: the deployment runs", began.elapsed());
    let prometheus = Prometheus::start(scene.stack.services())
        .await
        .unwrap_or_else(|error| panic!("{error:?}"));
    let first_of_its_kind = scene.stack.services().filter(|service| service.name().ends_with("-1"));
    let scraper = Scraper::start(first_of_its_kind).await;
    let counted = rules::counted_from_the_start(&prometheus).await;

    let unreachable = scene.unreachable_client().await;
    scene.phone_call(&scraper).await;
    println!("{:?}: the phone call is over", began.elapsed());
    scene.browser_call(&scraper).await;
    println!("{:?}: the browser's call is over", began.elapsed());
    let webrtc_session = scene.webrtc_call().await;
    println!("{:?}: the WebRTC call is over", began.elapsed());
    scene.phone_stream_comes_back(&scraper).await;
    println!("{:?}: the phone stream came back", began.elapsed());
    lines::of_a_phone_call(&scene).await;
    println!("{:?}: a phone call was looked up in the logs", began.elapsed());
    scene.client_that_does_not_read(&scraper).await;
    println!("{:?}: a client did not read", began.elapsed());
    scene.disk_is_full(&scraper).await;
    println!("{:?}: the disk was full", began.elapsed());
    scene.stores_refuse(&scraper).await;
    println!("{:?}: the stores refused and are back", began.elapsed());
    scene.refusals().await;
    operators_are_served_elsewhere(&scene).await;
    scene.node_with_a_gap(&scraper).await;
    scene.row_that_is_refused(&scraper).await;
    scene.node_that_goes(&scraper).await;
    scene.internal_listeners_need_token_and_certificate().await;
    println!("{:?}: clients were refused", began.elapsed());

    let problems = eventually("every metric moves", LIMIT, || async {
        let problems = contract_problems(&scraper);
        Ok(problems.is_empty().then_some(()))
    });
    if problems.await.is_err() {
        panic!("{}", contract_problems(&scraper).join("\n"));
    }
    drop(unreachable);
    scraper.with(|seen| {
        for (role, seen) in seen {
            promtool(&["check", "metrics"], Some(&seen.text)).unwrap_or_else(|error| panic!("{role}: {error:#}"));
        }
    });
    let evaluated = eventually("every rule is evaluated", LIMIT, || async {
        let rules = prometheus.rules().await?;
        let broken: Vec<_> = rules.iter().filter(|(_, error)| !error.is_empty()).collect();
        anyhow::ensure!(broken.is_empty(), "{broken:?}");
        Ok((!rules.is_empty()).then_some(()))
    });
    evaluated.await.unwrap();
    rules::nothing_began_late(&prometheus, &counted).await;
    let still: BTreeSet<&str> = STILL.iter().map(|(name, _)| *name).collect();
    let drawn = eventually("every panel has data", LIMIT, || async {
        let problems =
            dashboards::without_data(&prometheus, |query| still.iter().any(|name| query.contains(name))).await;
        Ok(problems.is_empty().then_some(()))
    });
    if drawn.await.is_err() {
        let problems =
            dashboards::without_data(&prometheus, |query| still.iter().any(|name| query.contains(name))).await;
        panic!("{}", problems.join("\n"));
    }
    println!("{:?}: every panel has data", began.elapsed());
    let problems = autoscaler::without_data(&prometheus).await;
    assert!(problems.is_empty(), "{}", problems.join("\n"));

    lines::say_where_they_belong(&scene);
    lines::of_a_webrtc_call(&scene, &webrtc_session);
    traces::phone_call_is_one(&scene).await;
    traces::webrtc_call_is_one(&scene, &webrtc_session).await;
    traces::collector_wants_authority_and_token(&scene).await;
    println!("{:?}: the traces are whole", began.elapsed());
    lines::level_changes_while_services_run(&scene).await;
    println!("{:?}: the log level changed", began.elapsed());
    a_node_that_drains_says_so(&scene, &scraper).await;
}

/// What the documentation says and the services do not do, and the other way round.
fn contract_problems(scraper: &Scraper) -> Vec<String> {
    let rows = documented();
    let known: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    scraper.with(|seen| {
        let mut problems = Vec::new();
        for row in &rows {
            let Some(_) = seen.values().find(|seen| seen.latest.contains_key(&row.name)) else {
                problems.push(format!("{} is exported by nobody", row.name));
                continue;
            };
            for (role, seen) in seen {
                let Some(metric) = seen.latest.get(&row.name) else {
                    continue;
                };
                if metric.kind != row.kind {
                    problems.push(format!(
                        "{} of {role} is a {}, not a {}",
                        row.name, metric.kind, row.kind
                    ));
                }
                if metric.labels != row.labels {
                    problems.push(format!("{} of {role} has labels {:?}", row.name, metric.labels));
                }
                if !row.services.contains(role) {
                    problems.push(format!("{} is exported by {role}", row.name));
                }
            }
            let moved = seen.values().any(|seen| seen.moved.contains(&row.name));
            let still = STILL.iter().any(|(name, _)| *name == row.name);
            if !moved && !still {
                problems.push(format!("{} has not moved", row.name));
            } else if moved && still {
                problems.push(format!("{} has moved: take it from the list", row.name));
            }
        }
        for (role, seen) in seen {
            let foreign = |name: &String| !known.contains(name.as_str()) && !name.starts_with("process_");
            for name in seen.latest.keys().filter(|name| foreign(name)) {
                problems.push(format!("{name} of {role} is not documented"));
            }
        }
        problems
    })
}

/// What only operators may use is not on the public listener of any service, under neither name.
async fn operators_are_served_elsewhere(scene: &Scene) {
    for service in scene.stack.services() {
        let status = async |method: &Method, url: String| {
            // A level that is none, for where the route is.
            let asked = http().request(method.clone(), url).json(&json!({ "level": "loud" }));
            asked.send().await.unwrap().status().as_u16()
        };
        let name = service.name();
        for (method, path) in [
            (Method::GET, "/metrics"),
            (Method::POST, "/drain"),
            (Method::PUT, "/log-level"),
        ] {
            for prefix in ["", "/api/v1"] {
                let public = format!("{}{prefix}{path}", service.url());
                assert_eq!(status(&method, public).await, 404, "{method} {prefix}{path} of {name}");
            }
        }
        let operators = service.operators_url();
        assert_eq!(
            status(&Method::GET, format!("{operators}/metrics")).await,
            200,
            "{name}"
        );
        assert_eq!(
            status(&Method::PUT, format!("{operators}/log-level")).await,
            422,
            "{name}"
        );
    }
}

/// For as long as it has a call. Slots that are kept for nobody are given back first.
async fn a_node_that_drains_says_so(scene: &Scene, scraper: &Scraper) {
    let (signaling, node) = (scene.stack.signaling[0].url(), &scene.stack.media[0]);
    let listed = api::data(&format!("{signaling}/sessions")).await.unwrap().unwrap();
    for session in listed["sessions"].as_array().unwrap() {
        let id = session["sessionId"].as_str().unwrap();
        http()
            .delete(format!("{signaling}/sessions/{id}"))
            .send()
            .await
            .unwrap();
    }
    let slot = eventually("a slot is free", LIMIT, || async {
        Ok(Browser::refusal(&node.ws_url()).await.is_none().then_some(()))
    });
    slot.await.unwrap();
    let browser = Browser::connect(&node.ws_url()).await;
    assert!(scraper.sum("media", "voxray_draining", "") < 1.0);
    let drain = http().post(format!("{}/drain", node.operators_url()));
    assert_eq!(drain.send().await.unwrap().status(), 202);
    let draining = eventually("the node drains", LIMIT, || async {
        Ok((scraper.sum("media", "voxray_draining", "") > 0.0).then_some(()))
    });
    draining.await.unwrap();
    browser.close().await;
}
