//! What nvcc makes of the kernels, for every card: no register may go to memory, every change of a kernel's registers is
//! seen in benches/results/registers.txt, and where launches overlap, nothing comes ahead of the wait for the launch before.
//! Without nvcc there is nothing to look at, and the test says so.

#[path = "../cuda/nvcc.rs"]
mod nvcc;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Registers of a thread and bytes of shared memory of a block, by target.
type Kernel = BTreeMap<String, (u32, u32)>;

#[test]
fn kernels_compile_without_spills_and_the_library_starts_without_a_driver() {
    let toolkit = match nvcc::Toolkit::find() {
        Ok(toolkit) => toolkit,
        Err(why) => return eprintln!("not compiled: {why}"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda");
    std::fs::create_dir_all(&out).unwrap();
    let sources = nvcc::sources(&root.join("cuda")).unwrap();
    let compiled = toolkit.compile(&sources, &out, 2).unwrap();
    let mut kernels = BTreeMap::new();
    let mut spilled = Vec::new();
    for (_, said) in &compiled {
        parse(said, &mut kernels, &mut spilled);
    }
    assert!(kernels.len() > 10, "no kernels in what the compiler said");
    assert!(spilled.is_empty(), "registers in memory:\n{}", spilled.join("\n"));
    let objects = compiled.into_iter().map(|(object, _)| object).collect::<Vec<_>>();
    for &target in toolkit.targets.iter().filter(|target| **target >= 90) {
        follow(&objects, &toolkit, target, kernels.len());
    }
    starts(&objects, &toolkit, &out);
    compare(&table(&toolkit, &kernels), &root.join("../benches/results/registers.txt"), &out);
}

/// Every kernel for a card whose launches overlap lets the next one begin and waits for the one before, ahead of all that it does
/// to global memory; and it reads none of that through the cache that no wait makes coherent.
fn follow(objects: &[PathBuf], toolkit: &nvcc::Toolkit, target: u32, kernels: usize) {
    let mut seen = 0;
    for object in objects {
        let Some(code) = toolkit.machine_code(object, target) else {
            return eprintln!("no cuobjdump and nvdisasm: the machine code was not looked at");
        };
        let code = code.unwrap();
        for kernel in code.split("Function : ").skip(1) {
            let name = kernel.split_whitespace().next().unwrap_or("");
            let did: Vec<&str> = kernel.lines().filter_map(instruction).collect();
            let place = |of: &str| did.iter().position(|i| *i == of);
            let (next, waits) = (place("PREEXIT"), place("ACQBULK"));
            assert!(next.is_some() && waits.is_some(), "{name} for {target}: {next:?}, {waits:?}");
            let global = ["LDG", "STG", "LDGSTS", "ATOM", "ATOMG", "RED", "LD", "ST"];
            let first = did.iter().position(|i| global.contains(&i.split('.').next().unwrap_or("")));
            assert!(first > waits, "{name} for {target}: memory at {first:?}, the wait at {waits:?}");
            let incoherent = did.iter().find(|i| i.starts_with("LDG") && i.contains(".CONSTANT"));
            assert_eq!(incoherent, None, "{name} for {target}");
            seen += 1;
        }
    }
    assert_eq!(seen, kernels, "kernels for {target}");
}

/// The name of a line's instruction, without its predicate and operands.
fn instruction(line: &str) -> Option<&str> {
    let text = line.trim().strip_prefix("/*")?.split("*/").nth(1)?;
    text.split_whitespace().find(|word| !word.starts_with('@'))
}

/// Reads ptxas's words: a kernel's name and target, then stack and spills, then registers.
fn parse(said: &str, kernels: &mut BTreeMap<String, Kernel>, spilled: &mut Vec<String>) {
    let number = |line: &str, unit: &str| -> u32 {
        let before = line.split(unit).next().unwrap_or("");
        before.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let (mut name, mut target) = (String::new(), String::new());
    for line in said.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let mut quoted = rest.split('\'');
            name = quoted.next().unwrap_or("").to_owned();
            target = quoted.nth(1).unwrap_or("").trim_start_matches("sm_").to_owned();
        } else if line.contains("bytes stack frame") {
            let memory =
                ["bytes stack frame", "bytes spill stores", "bytes spill loads"].map(|u| number(line, u));
            if memory != [0; 3] {
                spilled.push(format!("{name} for {target}: {}", line.trim()));
            }
        } else if line.contains(": Used ") {
            let used = (number(line, " registers"), number(line, " bytes smem"));
            kernels.entry(name.clone()).or_default().insert(target.clone(), used);
        }
    }
}

fn table(toolkit: &nvcc::Toolkit, kernels: &BTreeMap<String, Kernel>) -> String {
    let (major, minor) = toolkit.version;
    let mut text =
        format!("# Registers of a thread by target, nvcc {major}.{minor}; no kernel spills or has a stack\n");
    let targets: Vec<String> = toolkit.targets.iter().map(u32::to_string).collect();
    let heading: String = targets.iter().map(|t| format!("{t:>5}")).collect();
    writeln!(text, "{heading}  kernel").unwrap();
    let mut rows: Vec<(String, &Kernel)> =
        kernels.iter().map(|(name, kernel)| (demangled(name), kernel)).collect();
    rows.sort();
    for (name, kernel) in rows {
        let cells: String = targets
            .iter()
            .map(|t| kernel.get(t).map_or("    -".into(), |(regs, _)| format!("{regs:>5}")))
            .collect();
        writeln!(text, "{cells}  {name}").unwrap();
    }
    text
}

/// The name as it is in the source, if `c++filt` of binutils is there.
fn demangled(name: &str) -> String {
    let said = Command::new("c++filt").arg(name).output();
    let text = said.map_or(name.to_owned(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    let text =
        text.trim_start_matches("void ").replace("coder_cuda::", "").replace("(anonymous namespace)::", "");
    text.split('(').next().unwrap_or("").to_owned()
}

/// The table is that of the repository, where the compiler is the same release.
fn compare(table: &str, file: &Path, out: &Path) {
    let new = out.join("registers.txt");
    std::fs::write(&new, table).unwrap();
    let old = std::fs::read_to_string(file).unwrap_or_default();
    if old.lines().next() == table.lines().next() || old.is_empty() {
        assert!(old == table, "registers changed; if that is meant: cp {} {}", new.display(), file.display());
    }
}

/// A program with the library linked in says `no CUDA driver` (or counts cards); it does not fail to start.
fn starts(objects: &[PathBuf], toolkit: &nvcc::Toolkit, out: &Path) {
    let (source, program) = (out.join("starts.cpp"), out.join("starts"));
    std::fs::write(
        &source,
        "#include \"api.h\"\n#include <stdio.h>\nextern \"C\" const Api *coder_cuda_api(void);\n\
         int main() { int n = 0, error = coder_cuda_api()->count(&n);\n\
         printf(\"%d %d %s\\n\", error, n, error ? coder_cuda_api()->message() : \"\"); }\n",
    )
    .unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
    let linked = Command::new("c++")
        .arg("-I")
        .arg(include)
        .arg(&source)
        .args(objects)
        .arg("-L")
        .arg(toolkit.library_dir().unwrap())
        .args(["-lcudart_static", "-ldl", "-lrt", "-lpthread", "-o"])
        .arg(&program)
        .status();
    assert!(linked.is_ok_and(|status| status.success()), "the library does not link");
    let said = Command::new(&program).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{text}");
    assert!(text.starts_with("0 ") || text == "1 0 no CUDA driver\n", "{text}");
}
