//! A real Prometheus that scrapes a running deployment, and what it says.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::{server_folder, start_with_fresh_ports, tools};
use crate::ports::free_port;
use crate::process::{Process, Spec};
use crate::service::Service;

const START_LIMIT: Duration = Duration::from_secs(30);

/// `prometheus` on a free loopback port, with the alert rules that are deployed.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    http: reqwest::Client,
    _process: Process,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it for these services every second, by the job names that rules and dashboards know.
    ///
    /// # Errors
    /// When Prometheus is missing or does not start.
    pub async fn start<'a>(services: impl Iterator<Item = &'a Service>) -> anyhow::Result<Self> {
        let mut jobs = String::new();
        for service in services {
            let target = service.operators_url().trim_start_matches("http://").to_owned();
            let job = service.role().name();
            jobs += &format!(
                "  - job_name: {}\n    static_configs: [{{ targets: [\"{target}\"], labels: {{ job: {job} }} }}]\n",
                service.name()
            );
        }
        let rules = tools::workspace_root().join("deploy/prometheus/rules/*.yml");
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: [{:?}]\nscrape_configs:\n{jobs}",
            rules.display().to_string()
        );
        let http = client()?;
        start_with_fresh_ports(|| Self::try_start(&config, http.clone())).await
    }

    async fn try_start(config: &str, http: reqwest::Client) -> anyhow::Result<Self> {
        let port = free_port()?;
        let folder = server_folder("prometheus")?;
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).context("cannot write prometheus.yml")?;
        let spec = Spec::new("prometheus", tools::prometheus()?)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .folder(folder.path());
        let process = Process::spawn(spec, &folder.path().join("prometheus.log"))?;
        let ready = || async {
            let answer = http.get(format!("http://127.0.0.1:{port}/-/ready")).send().await?;
            answer.error_for_status()?;
            Ok(())
        };
        process.wait_until_ready(START_LIMIT, ready).await?;
        Ok(Self {
            port,
            http: http.clone(),
            _process: process,
            _folder: folder,
        })
    }

    /// What a query gives now: the list of its series.
    ///
    /// # Errors
    /// What Prometheus says is wrong with it.
    pub async fn query(&self, expression: &str) -> anyhow::Result<Vec<Value>> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let answer: Value = self
            .http
            .post(url)
            .form(&[("query", expression)])
            .send()
            .await?
            .json()
            .await?;
        if answer.pointer("/status") != Some(&Value::from("success")) {
            bail!("{expression}: {answer}");
        }
        let result = answer.pointer("/data/result").and_then(Value::as_array).cloned();
        result.with_context(|| format!("{expression} gives no series: {answer}"))
    }

    /// Every rule with its name and what went wrong when it was evaluated, if anything.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn rules(&self) -> anyhow::Result<Vec<(String, String)>> {
        let url = format!("http://127.0.0.1:{}/api/v1/rules", self.port);
        let answer: Value = self.http.get(url).send().await?.json().await?;
        let groups = answer.pointer("/data/groups").and_then(Value::as_array);
        let groups = groups.cloned().unwrap_or_default();
        let rules = groups.iter().flat_map(|group| {
            group
                .get("rules")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        });
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(rules
            .map(|rule| (text(rule.get("name")), text(rule.get("lastError"))))
            .collect())
    }
}

/// What `promtool` says of this, printed by it to both outputs, when it is not content.
///
/// # Errors
/// When promtool is missing, or finds something.
pub fn promtool(arguments: &[&str], input: Option<&str>) -> anyhow::Result<()> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new(tools::promtool()?)
        .args(arguments)
        .current_dir(tools::workspace_root())
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start promtool")?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).context("promtool takes no input")?;
    }
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success(), "promtool {}: {said}", arguments.join(" "));
    Ok(())
}

fn client() -> anyhow::Result<reqwest::Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().pool_max_idle_per_host(0).build()?)
}
