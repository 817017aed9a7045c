// Finding nvcc, and compiling the kernels with it. Part of `build.rs`, and of the test that watches what
// the compiler makes of each kernel.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

/// The cards that get code of their own; later ones compile the newest's PTX when the program starts.
const TARGETS: [u32; 5] = [80, 86, 89, 90, 120];

/// The oldest nvcc that these sources are meant for.
const OLDEST: (u32, u32) = (12, 4);

/// What to do where there is none.
const REMEDY: &str = "put nvcc 12.4 or later on PATH or its folder into CUDA_HOME, or install it with \
    `pip install nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-cccl` for the `python3` on PATH";

/// Where toolkits have their libraries: NVIDIA's own, its packages for Python, and those of Debian and Ubuntu, whose root is
/// `/usr`.
const LIBRARIES: [&str; 6] = [
    "lib64",
    "lib",
    "targets/x86_64-linux/lib",
    "targets/sbsa-linux/lib",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
];

/// A CUDA toolkit.
pub(crate) struct Toolkit {
    root: PathBuf,
    /// Release, as `(13, 0)`.
    pub(crate) version: (u32, u32),
    /// Those of [`TARGETS`] that this release knows.
    pub(crate) targets: Vec<u32>,
}

impl Toolkit {
    /// The toolkit in `CUDA_HOME`, `CUDA_PATH`, on PATH, or among the packages of `python3`.
    pub(crate) fn find() -> Result<Self, String> {
        let root = ["CUDA_HOME", "CUDA_PATH"]
            .iter()
            .filter_map(|name| std::env::var_os(name).map(PathBuf::from))
            .chain(on_path())
            .chain(of_python())
            .find(|root| root.join("bin/nvcc").is_file())
            .ok_or_else(|| format!("no nvcc found; {REMEDY}"))?;
        let said = output(Command::new(root.join("bin/nvcc")).arg("--version"))?;
        let release = said.split("release ").nth(1).and_then(|s| s.split(',').next()).unwrap_or("");
        let mut numbers = release.split('.').map_while(|n| n.trim().parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version < OLDEST {
            return Err(format!(
                "nvcc {}.{} in {} is too old; {REMEDY}",
                version.0,
                version.1,
                root.display()
            ));
        }
        let known = output(Command::new(root.join("bin/nvcc")).arg("--list-gpu-code"))?;
        let knows = |target: &u32| known.lines().any(|line| line.trim() == format!("sm_{target}"));
        let targets = TARGETS.into_iter().filter(knows).collect();
        Ok(Self { root, version, targets })
    }

    /// The folder that holds the runtime's static library.
    pub(crate) fn library_dir(&self) -> Result<PathBuf, String> {
        LIBRARIES
            .iter()
            .map(|dir| self.root.join(dir))
            .find(|dir| dir.join("libcudart_static.a").is_file())
            .ok_or_else(|| format!("no libcudart_static.a in {}; {REMEDY}", self.root.display()))
    }

    /// The machine code of `object` for a target, in words; `None` if the toolkit has no program for that.
    pub(crate) fn machine_code(&self, object: &Path, target: u32) -> Option<Result<String, String>> {
        let tools = self.root.join("bin");
        // One program calls the other.
        let both = ["cuobjdump", "nvdisasm"].iter().all(|name| tools.join(name).is_file());
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([tools.clone()].into_iter().chain(std::env::split_paths(&others)));
        let mut command = Command::new(tools.join("cuobjdump"));
        command.env("PATH", path.ok()?).args(["--dump-sass", "-arch", &format!("sm_{target}")]).arg(object);
        both.then(|| output(&mut command))
    }

    /// Compiles `sources` into objects in `out`, several at once; gives what the compiler said of each kernel.
    pub(crate) fn compile(
        &self,
        sources: &[PathBuf],
        out: &Path,
        jobs: usize,
    ) -> Result<Vec<(PathBuf, String)>, String> {
        let (next, done) = (Mutex::new(sources.iter()), Mutex::new(Vec::new()));
        // A function, so that the lock is free again while its source is compiled.
        let take = || next.lock().ok()?.next();
        thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                scope.spawn(|| {
                    while let Some(source) = take() {
                        let object = out.join(source.file_stem().unwrap_or_default()).with_extension("o");
                        let said = self.compile_one(source, &object).map(|said| (object, said));
                        if let Ok(mut done) = done.lock() {
                            done.push(said);
                        }
                    }
                });
            }
        });
        done.into_inner().map_err(|e| e.to_string())?.into_iter().collect()
    }

    fn compile_one(&self, source: &Path, object: &Path) -> Result<String, String> {
        let mut command = Command::new(self.root.join("bin/nvcc"));
        // Contraction is off so that every device rounds alike; see common.cuh.
        command.args(["-std=c++17", "-O3", "-fmad=false", "-Xptxas", "-v", "-Xcompiler", "-fPIC", "-c"]);
        // Nothing in the sources tells cards before 9.0 apart: they share their PTX, which takes a quarter less time.
        let (old, new) = self.targets.split_at(self.targets.partition_point(|target| *target < 90));
        let groups = old.first().map(|_| old).into_iter().chain(new.chunks(1));
        let newest = self.targets.last();
        for group in groups {
            let mut code: Vec<String> = group.iter().map(|target| format!("sm_{target}")).collect();
            code.extend(
                newest.filter(|newest| group.contains(newest)).map(|newest| format!("compute_{newest}")),
            );
            command.arg(format!("-gencode=arch=compute_{},code=[{}]", group[0], code.join(",")));
        }
        output(command.arg(source).arg("-o").arg(object))
    }
}

/// The kernels' files in `dir`, in order.
pub(crate) fn sources(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "cu"));
    files.sort();
    Ok(files)
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let nvcc = std::env::split_paths(&path).map(|dir| dir.join("nvcc")).find(|file| file.is_file())?;
    Some(nvcc.canonicalize().ok()?.parent()?.parent()?.to_path_buf())
}

/// The packages `nvidia-cuda-*` share one folder, `nvidia/cu13` for release 13.
fn of_python() -> Vec<PathBuf> {
    let program = "import nvidia; print('\\n'.join(nvidia.__path__))";
    let said = output(Command::new("python3").args(["-c", program])).unwrap_or_default();
    let packages = said.lines().filter_map(|line| std::fs::read_dir(line.trim()).ok());
    let mut roots: Vec<PathBuf> = packages.flatten().filter_map(|e| Some(e.ok()?.path())).collect();
    roots.sort();
    roots.reverse();
    roots
}

/// What a command said on both outputs; an error if it failed.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    let said = [output.stdout, output.stderr].map(|s| String::from_utf8_lossy(&s).into_owned()).concat();
    if output.status.success() { Ok(said) } else { Err(format!("{name}: {}\n{said}", output.status)) }
}
