//! `GET /`, `GET /openapi.json`, `GET /swagger/`.

use axum::body::Body;
use axum::http::{Method, Request};

use crate::support::{Plane, Switch};

#[tokio::test]
async fn every_documented_route_exists() {
    let plane = Plane::start(&Switch::new(), &[]).await;
    let document = plane.get("/openapi.json").await.json();

    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 22, "{:?}", paths.keys().collect::<Vec<_>>());
    for (path, operations) in paths {
        for method in operations.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let concrete = path.replace("{id}", "nonsense").replace("{provider}", "nobody");
            for prefix in ["", "/api/v1"] {
                let concrete = format!("{prefix}{}", concrete.trim_end_matches('/'));
                let concrete = match concrete.as_str() {
                    "" => "/".to_owned(),
                    "/api/v1/sessions/nonsense/api/offer" => "/api/v1/sessions/nonsense/offer".to_owned(),
                    _ => concrete,
                };
                let request = Request::builder()
                    .method(&method)
                    .uri(&concrete)
                    .body(Body::empty())
                    .unwrap();
                let answer = plane.send(request).await;
                assert_ne!(answer.status, 405, "{method} {concrete}");
                assert!(
                    !answer.text.contains("no such route"),
                    "{method} {concrete}: {}",
                    answer.text
                );
            }
        }
    }
}

#[tokio::test]
async fn the_interactive_page_needs_no_internet() {
    let plane = Plane::start(&Switch::new(), &[]).await;

    let page = plane.get("/swagger/").await;

    assert_eq!(page.status, 200);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    for attribute in ["src=\"", "href=\""] {
        for after in page.text.split(attribute).skip(1) {
            let url = after.split('"').next().unwrap();
            assert!(!url.starts_with("http") && !url.starts_with("//"), "{url}");
            let file = plane.get(&format!("/swagger/{}", url.trim_start_matches("./"))).await;
            assert_eq!(file.status, 200, "{url}");
        }
    }
    assert!(
        plane
            .get("/swagger/swagger-initializer.js")
            .await
            .text
            .contains("/openapi.json")
    );
}

#[tokio::test]
async fn the_root_names_the_useful_urls_to_people_and_to_programs() {
    let plane = Plane::start(&Switch::new(), &[]).await;

    let json = plane.get("/").await.json();
    assert_eq!(json["data"]["name"], "voxray");

    let browser = Request::get("/")
        .header("accept", "text/html,*/*")
        .body(Body::empty())
        .unwrap();
    let page = plane.send(browser).await;
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(page.text.contains("/console/main.js"));
    let urls = json["data"]["urls"].as_array().unwrap();
    assert!(urls.iter().any(|url| url["path"] == "/console/"));
}
