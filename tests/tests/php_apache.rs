//! mod_php in apache: its workers are named with the URL that the client asked for. apache is
//! unpacked from Debian's packages and run in a folder of its own; no service is installed.

mod binary;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rampage::event::{Event, Evidence, FindingKind};
use rampage::php::{Activity, LookOptions, Looker};
use tests::cgroup::MemoryCgroup;
use tests::tracer::Tracer;
use tests::{clock, debian_php};

const LIMIT_BYTES: u64 = 320 << 20;

const LEAK: &str = "<?php\nfunction hoard() {\n    while (true) { $GLOBALS['held'][] = \
    str_repeat('x', 65536); usleep(4000); }\n}\necho getmypid(), \"\\n\", str_repeat(' ', 9000);\n\
    flush();\nhoard();\n";

/// Ends with its workers when it is dropped.
struct Apache(Child);

impl Drop for Apache {
    fn drop(&mut self) {
        // SAFETY: kill has no memory effects; the child is unreaped, its pid is its own.
        unsafe { libc::kill(self.0.id().cast_signed(), libc::SIGTERM) };
        self.0.wait().ok();
    }
}

#[test]
fn a_worker_of_apache_is_named_with_its_url() -> Result<()> {
    let tree = debian_php::tree(&debian_php::MOD_PHP_8_2)?;
    let folder = tempfile::tempdir_in(tree.join("tmp"))?;
    // Its workers are another user's.
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
    let inside = format!("/{}", folder.path().strip_prefix(&tree)?.display());
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    fs::write(folder.path().join("index.php"), LEAK)?;
    let modules = "/usr/lib/apache2/modules";
    let load = |name: &str, file: &str| format!("LoadModule {name}_module {modules}/{file}\n");
    let mut config = format!(
        "ServerRoot {inside}\nServerName shop.example\nListen 127.0.0.1:{port}\nPidFile \
         {inside}/pid\nErrorLog {inside}/error.log\nDefaultRuntimeDir {inside}\nUser #33\nGroup \
         #33\nStartServers 2\nDocumentRoot {inside}\n"
    );
    for name in ["authz_core", "dir", "mpm_prefork"] {
        config += &load(name, &format!("mod_{name}.so"));
    }
    config += &load("php", "libphp8.2.so");
    config += &format!(
        "<Directory {inside}>\nRequire all granted\nFallbackResource /index.php\n</Directory>\n\
         <FilesMatch \\.php$>\nSetHandler application/x-httpd-php\n</FilesMatch>\n\
         php_admin_value memory_limit 512M\nphp_admin_value max_execution_time 0\n\
         php_admin_value output_buffering 0\n"
    );
    fs::write(folder.path().join("apache.conf"), config)?;

    let cgroup = MemoryCgroup::new("apache", LIMIT_BYTES)?;
    let mut command = Command::new("chroot");
    command.arg(&tree).args(["/usr/sbin/apache2", "-DFOREGROUND", "-f"]);
    command.arg(format!("{inside}/apache.conf"));
    cgroup.confine(&mut command)?;
    // When it is told to end, it ends its process group.
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    let mut apache = Apache(command.spawn()?);
    let log = || fs::read_to_string(folder.path().join("error.log")).unwrap_or_default();
    let mut stream = clock::wait_for("apache", Duration::from_secs(10), || {
        if let Some(status) = apache.0.try_wait()? {
            bail!("apache ended: {status}: {}", log());
        }
        Ok(TcpStream::connect(("127.0.0.1", port)).ok())
    })?;
    let tracer = Tracer::watch("")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"PUT /orders/17?token=s3cret HTTP/1.1\r\nHost: shop.example\r\n\r\n")?;
    let mut answer = Vec::new();
    let worker: u32 = loop {
        let mut part = [0; 4096];
        let bytes = stream.read(&mut part)?;
        ensure!(bytes > 0, "no answer: {}: {}", String::from_utf8_lossy(&answer), log());
        answer.extend_from_slice(&part[..bytes]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        // The body is chunked: the length of the chunk stands before it.
        let number = body.as_deref().and_then(|body| body.lines().nth(1)?.trim().parse().ok());
        if let Some(number) = number {
            break number;
        }
    };
    std::thread::sleep(Duration::from_millis(100));
    let options = LookOptions { timeout: Duration::from_secs(2), ..LookOptions::default() };
    let mut looker = Looker::new();
    for _ in 0..20 {
        let look = looker.look(worker, &options);
        assert!(look.missing.is_empty(), "{look:#?}");
        assert_eq!((look.sapi.as_deref(), look.activity), (Some("apache"), Activity::Request));
        let request = look.request.as_ref().context("request")?;
        assert_eq!(request.method.as_deref(), Some("PUT"));
        assert_eq!(request.uri.as_deref(), Some("/orders/17?token=…"), "{look:#?}");
        assert_eq!(request.host.as_deref(), Some("shop.example"));
        assert_eq!(request.script.as_deref(), Some(&*format!("{inside}/index.php")));
        let elapsed_ns = request.elapsed_ns.context("no time")?;
        assert!((50_000_000..60_000_000_000).contains(&elapsed_ns), "{look:#?}");
        assert_eq!(look.memory.context("no memory")?.limit_bytes, Some(512 << 20));
        let leak = look.stack.iter().find(|frame| frame.name().as_deref() == Some("hoard"));
        assert_eq!(leak.context("the leak is not on the stack")?.line, Some(3));
    }
    let line = tracer.wait_for("the finding", Duration::from_secs(20), |line| {
        matches!(&line.event, Event::Finding(finding) if finding.kind == FindingKind::Runaway
            && finding.subject.as_ref().is_some_and(|subject| subject.tgid == worker))
    })?;
    let Event::Finding(finding) = &line.event else { bail!("{line:?}") };
    println!("{}", finding.summary);
    let Evidence::Runaway(runaway) = &finding.evidence else { bail!("{finding:?}") };
    let request = runaway.request.as_ref().with_context(|| format!("{finding:#?}"))?;
    assert_eq!(request.uri.as_deref(), Some("/orders/17?token=…"));
    assert_eq!(runaway.php_growth[0].function.as_deref(), Some("hoard"));
    assert!(finding.summary.contains("it serves PUT /orders/17?token=…"), "{}", finding.summary);
    tracer.finish()?;
    let (_, json, _) = binary::run(binary::rampage().args(["php", "--json"]));
    let listed = json.lines().find(|line| line.contains(&format!("\"tgid\":{worker},")));
    assert!(listed.context("not listed")?.contains("/orders/17"), "{json}");
    Ok(())
}
