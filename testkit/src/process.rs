//! Child processes that write to a log file, die with this process, and are gone once dropped.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How often a process is looked at while it starts or ends.
const POLL: Duration = Duration::from_millis(10);

/// Lines of the log that go into an error.
const TAIL_LINES: usize = 30;

/// Requests waiting for the spawning thread; a full queue makes the caller wait, which is what it does anyway.
const SPAWN_QUEUE: usize = 16;

/// What to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Short name, for messages and the log file.
    pub name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    env_remove: Vec<OsString>,
    user: Option<String>,
    folder: Option<PathBuf>,
}

impl Spec {
    /// A program, by path or by a name on PATH.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            env_remove: Vec::new(),
            user: None,
            folder: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Hides an environment variable of this process from the child.
    #[must_use]
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.env_remove.push(key.as_ref().to_owned());
        self
    }

    /// Has another program run this one: its arguments come before this command line, which it executes in its place.
    #[must_use]
    pub fn run_by(mut self, program: impl Into<PathBuf>, args: &[&str]) -> Self {
        let inner = std::mem::replace(&mut self.program, program.into());
        let rest = std::mem::take(&mut self.args);
        self.args = args.iter().map(OsString::from).collect();
        self.args.push(inner.into_os_string());
        self.args.extend(rest);
        self
    }

    /// Runs as another user; only root can.
    #[must_use]
    pub fn user(mut self, user: Option<&str>) -> Self {
        self.user = user.map(str::to_owned);
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// The command, wrapped so that the kernel kills it when the thread that started it ends.
    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(user) = &self.user {
            command.args([
                format!("--reuid={user}"),
                format!("--regid={user}"),
                "--init-groups".into(),
            ]);
        }
        command.arg("--").arg(&self.program).args(&self.args);
        for key in &self.env_remove {
            command.env_remove(key);
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// When it cannot be started or fails; the message ends with what it printed.
    pub async fn run(&self, log: &Path) -> anyhow::Result<()> {
        let process = Process::spawn(self.clone(), log)?;
        let status = process.wait().await?;
        if !status.success() {
            bail!("{} ended with {status}; it said:\n{}", self.name, process.log_tail());
        }
        Ok(())
    }
}

/// A running child. Dropping it kills its process group and waits until the child is gone.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Mutex<Child>,
    pid: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts a program; what it prints is appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn spawn(spec: Spec, log: &Path) -> anyhow::Result<Self> {
        let out = open_log(log)?;
        let mut command = spec.command();
        command
            .stdout(out.try_clone().context("cannot share the log file")?)
            .stderr(out);
        let child = spawn_from_keeper(command).with_context(|| {
            format!(
                "cannot start {} ({}) through setpriv",
                spec.name,
                spec.program.display()
            )
        })?;
        let pid = Pid::from_child(&child);
        Ok(Self {
            name: spec.name,
            child: Mutex::new(child),
            pid,
            log: log.to_owned(),
        })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its output.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn exited(&self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child().try_wait()?)
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub async fn wait(&self) -> anyhow::Result<ExitStatus> {
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends a signal to the child alone. A child that has ended already is no error.
    ///
    /// # Errors
    /// When the signal may not be sent.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // The lock is held from the check to the signal: nobody reaps the child, so its number cannot be given away.
        let mut child = self.child();
        if child.try_wait()?.is_none() {
            kill_process(self.pid, signal).with_context(|| format!("cannot signal {}", self.name))?;
        }
        Ok(())
    }

    /// SIGTERM: asks it to end, without waiting.
    ///
    /// # Errors
    /// When the signal may not be sent.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    /// SIGKILL for the whole process group, then waits until the child is gone.
    pub fn kill9(&self) {
        let mut child = self.child();
        if matches!(child.try_wait(), Ok(None)) {
            // Either may have gone in between; what counts is the wait below.
            let _ = kill_process_group(self.pid, Signal::KILL);
            let _ = child.kill();
        }
        let _ = child.wait();
    }

    /// Waits until `probe` says yes, the process ends or `limit` passes.
    ///
    /// # Errors
    /// When it ended or is not ready in time; the message ends with what it printed.
    pub async fn wait_until_ready<F, Fut>(&self, limit: Duration, mut probe: F) -> anyhow::Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = anyhow::Result<()>>,
    {
        let started = Instant::now();
        loop {
            if let Some(status) = self.exited()? {
                bail!(
                    "{} ended with {status} before it was ready; it said:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            let Err(why) = probe().await else { return Ok(()) };
            if started.elapsed() > limit {
                let tail = self.log_tail();
                return Err(why.context(format!("{} is not ready after {limit:?}; it said:\n{tail}", self.name)));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn open_log(log: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot open the log {}", log.display()))
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let skip = lines.len().saturating_sub(TAIL_LINES);
    lines.into_iter().skip(skip).collect::<Vec<_>>().join("\n")
}

type SpawnRequest = (Command, SyncSender<std::io::Result<Child>>);

/// The kernel's "die with your parent" means the parent *thread*, and threads of a test runner end with their test.
/// So one thread, as old as the process, starts every child.
static KEEPER: LazyLock<Mutex<SyncSender<SpawnRequest>>> = LazyLock::new(|| {
    let (requests, inbox) = sync_channel::<SpawnRequest>(SPAWN_QUEUE);
    std::thread::spawn(move || {
        for (mut command, answer) in inbox {
            // The caller waits for the answer; if it is gone, the child ends here.
            if let Err(std::sync::mpsc::SendError(Ok(mut orphan))) = answer.send(command.spawn()) {
                let _ = orphan.kill();
                let _ = orphan.wait();
            }
        }
    });
    Mutex::new(requests)
});

fn spawn_from_keeper(command: Command) -> anyhow::Result<Child> {
    let (answer, inbox) = sync_channel(1);
    let gone = || anyhow!("the thread that starts processes is gone");
    KEEPER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| gone())?;
    Ok(inbox.recv().map_err(|_| gone())??)
}
