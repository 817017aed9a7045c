use super::*;

fn sh(script: &str, limits: &Limits) -> Verification {
    let argv = ["sh", "-c", script].map(str::to_owned);
    run(&argv, Path::new("/"), &Sandbox::off(), limits, &AtomicBool::new(false)).unwrap()
}

fn short() -> Limits {
    Limits { time: Duration::from_millis(300), grace: Duration::from_millis(200), ..Limits::default() }
}

#[test]
fn a_command_gives_status_and_ordered_output() {
    let done = sh("echo a; echo b >&2; echo c; exit 3", &Limits::default());
    assert_eq!((done.exit.clone(), done.output.as_str()), (Exit::Code(3), "a\nb\nc\n"));
    assert_eq!(done.exit.to_string(), "exit status 3");
    assert!(!done.passed());
    assert!(sh("true", &Limits::default()).passed());
    assert_eq!(sh("kill -9 $$", &Limits::default()).exit, Exit::Signal(9));
}

#[test]
fn it_runs_in_the_folder_with_nothing_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().canonicalize().unwrap();
    let argv = ["sh", "-c", "pwd; cat"].map(str::to_owned);
    let done = run(&argv, &here, &Sandbox::off(), &Limits::default(), &AtomicBool::new(false)).unwrap();
    assert_eq!(done.output.trim(), here.to_str().unwrap());
}

#[test]
fn a_missing_program_is_a_result() {
    let argv = ["no-such-program-anywhere".to_owned()];
    let done =
        run(&argv, Path::new("/"), &Sandbox::off(), &Limits::default(), &AtomicBool::new(false)).unwrap();
    assert_eq!(done.exit, Exit::NotFound(argv[0].clone()));
    assert!(done.exit.to_string().contains("`no-such-program-anywhere`"));
}

#[test]
fn output_has_a_limit() {
    let limits = Limits { output_bytes: 40, ..Limits::default() };
    let done = sh("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done", &limits);
    assert_eq!(done.lines, 2000);
    assert!(done.lines_kept < 10 && done.output.len() < 100, "{}", done.output);
    assert!(done.output.starts_with("line 0\n") && done.output.ends_with("line 1999\n"));
}

/// Whether a process goes on running; one that nobody has reaped yet does not, and one that was killed
/// may take a moment to die.
fn runs(pid: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])) {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

#[test]
fn the_time_limit_ends_grandchildren_too() {
    let done = sh("sleep 60 & echo $!; sh -c 'trap \"\" TERM; sleep 60'", &short());
    assert_eq!(done.exit, Exit::TimedOut(0));
    let grandchild = done.output.trim();
    assert!(!grandchild.is_empty() && !runs(grandchild), "{grandchild}");
    assert!(done.seconds < 5.0);
}

#[test]
fn what_stays_in_the_background_is_ended() {
    let done = sh("sleep 60 & echo $!", &Limits::default());
    assert!(done.passed());
    assert!(!runs(done.output.trim()));
}

#[test]
fn a_cancelled_command_ends() {
    let argv = ["sleep", "60"].map(str::to_owned);
    let done =
        run(&argv, Path::new("/"), &Sandbox::off(), &Limits::default(), &AtomicBool::new(true)).unwrap();
    assert_eq!(done.exit, Exit::Cancelled);
}

#[test]
fn names_of_secrets_are_known() {
    for name in ["OPENAI_API_KEY", "gh_token", "DB_PASSWORD", "AWS_SECRET_ACCESS"] {
        assert!(environment::is_secret(name));
    }
    assert!(!environment::is_secret("PATH") && !environment::is_secret("HOME"));
}

/// Covers S1-34.
#[test]
fn a_limit_that_no_clock_can_tell_is_none() {
    let limits = Limits { time: Duration::MAX, grace: Duration::MAX, ..Limits::default() };
    let argv = ["true".to_owned()];
    let folder = tempfile::tempdir().unwrap();
    let done = run(&argv, folder.path(), &Sandbox::off(), &limits, &AtomicBool::new(false)).unwrap();
    assert!(done.passed(), "{done:?}");
}

#[test]
fn without_a_sandbox_nothing_runs() {
    let dir = tempfile::tempdir().unwrap();
    let argv = ["touch", "ran"].map(str::to_owned);
    let refused = run(&argv, dir.path(), &Sandbox::default(), &Limits::default(), &AtomicBool::new(false));
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::NoSandbox { .. }));
    assert!(error.to_string().contains("`--no-sandbox`"), "{error}");
    assert!(!dir.path().join("ran").exists());
}
