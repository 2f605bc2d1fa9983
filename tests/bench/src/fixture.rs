//! A place of one's own on the real kernel: a bpffs, a cgroup, network namespaces.
//!
//! All of it goes when the fixture is dropped. It refuses to use anything that it did
//! not make: the cgroup is a new child of the cgroup2 root, the bpffs a new mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// Bpffs, cgroup, directories and network namespaces of one benchmark run.
pub struct Fixture {
    dir: TempDir,
    cgroup: PathBuf,
    netns: Vec<String>,
    bin: PathBuf,
}

impl Fixture {
    /// Makes all of it; `bin` is the directory of the built binaries.
    pub fn new(bin: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("kmesh-bench-").tempdir().context("temp dir")?;
        for sub in ["bpf", "state", "run"] {
            fs::create_dir(dir.path().join(sub)).with_context(|| format!("make {sub}"))?;
        }
        let name = format!("kmesh-bench-{}", std::process::id());
        let cgroup = kmesh_bpf::cgroup::find_root().context("find the cgroup2 root")?.join(name);
        fs::create_dir(&cgroup).with_context(|| format!("make {}", cgroup.display()))?;
        let fixture = Self { dir, cgroup, netns: Vec::new(), bin: bin.to_owned() };
        run("mount", &["-t", "bpf", "bpf", &fixture.path("bpf")])?;
        Ok(fixture)
    }

    /// A path inside the fixture's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    /// Kmesh's root on the fixture's bpffs.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("bpf/kmesh")
    }

    /// The cgroup of governed processes.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Makes a network namespace with loopback up; answers its name.
    pub fn netns(&mut self, label: &str) -> anyhow::Result<String> {
        let name = format!("kmb{}-{label}", std::process::id());
        run("ip", &["netns", "add", &name])?;
        self.netns.push(name.clone());
        run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
        Ok(name)
    }

    /// Joins two namespaces by a veth pair with 10.9.0.1 and 10.9.0.2.
    pub fn join(a: &str, b: &str) -> anyhow::Result<()> {
        run("ip", &["-n", a, "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", b])?;
        for (ns, address) in [(a, "10.9.0.1/24"), (b, "10.9.0.2/24")] {
            run("ip", &["-n", ns, "addr", "add", address, "dev", "eth0"])?;
            run("ip", &["-n", ns, "link", "set", "eth0", "up"])?;
        }
        Ok(())
    }

    /// A command of one of the built binaries.
    #[must_use]
    pub fn command(&self, binary: &str) -> Command {
        Command::new(self.bin.join(binary))
    }

    /// Starts `kmeshd` on a mesh file with this fixture's directories.
    pub fn daemon(&self, mesh: &str, admin_port: u16, more: &[&str]) -> anyhow::Result<Daemon> {
        let mut args = vec!["--mesh", mesh];
        args.extend(more);
        self.daemon_with(&args, admin_port)
    }

    /// Starts `kmeshd` with this fixture's directories and these options.
    pub fn daemon_with(&self, more: &[&str], admin_port: u16) -> anyhow::Result<Daemon> {
        let mut command = self.command("kmeshd");
        command
            .args(["--bpf-root", &self.path("bpf/kmesh")])
            .args(["--cgroup", &self.cgroup.to_string_lossy()])
            .args(["--state-dir", &self.path("state"), "--run-dir", &self.path("run")])
            .args(["--admin", &format!("127.0.0.1:{admin_port}")])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.stderr(fs::File::create(self.path("kmeshd.log")).context("daemon log")?);
        Daemon::start(command, admin_port)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for netns in &self.netns {
            let _ = run("ip", &["netns", "del", netns]);
        }
        let _ = run("umount", &[&self.path("bpf")]);
        let _ = fs::remove_dir(&self.cgroup);
    }
}

/// A running daemon; killed and reaped when dropped.
pub struct Daemon {
    child: Child,
    port: u16,
}

impl Daemon {
    fn start(mut command: Command, port: u16) -> anyhow::Result<Self> {
        let child = command.spawn().context("start kmeshd")?;
        Ok(Self { child, port })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `/healthz/ready` says yes.
    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        for _ in 0..6000 {
            if let Some(status) = self.child.try_wait().context("wait for kmeshd")? {
                bail!("kmeshd ended before it was ready: {status}");
            }
            if self.get("/healthz/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        bail!("kmeshd was not ready within 30 s")
    }

    /// One GET to the admin address; the whole answer.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The value of a sample of `/metrics` whose line starts with `series`.
    pub fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let answer = self.get("/metrics")?;
        let line = answer
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))
            .with_context(|| format!("no series {series} in /metrics"))?;
        let value = line.rsplit(' ').next().unwrap_or_default();
        value.parse().with_context(|| format!("value of {series}: {value}"))
    }

    /// Anonymous resident memory in MB (10⁶ bytes).
    pub fn rss_anon_mb(&self) -> anyhow::Result<f64> {
        Self::rss_anon_mb_of(self.pid())
    }

    /// The same of any process.
    pub fn rss_anon_mb_of(pid: u32) -> anyhow::Result<f64> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .context("RssAnon in /proc/PID/status")?;
        Ok(kib.trim().parse::<f64>()? * 1024.0 / 1e6)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end; its stderr is part of the error.
pub fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output =
        Command::new(program).args(args).output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", args.join(" "), why.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
