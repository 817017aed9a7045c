//! Main memory: what the machine has, and what the control groups of this process leave of it (containers, services,
//! batch jobs). A process that takes more than its group may have is killed, whatever the machine has free.

use std::fs;
use std::path::{Component, Path};

/// Where Linux shows control groups.
const GROUPS: &str = "/sys/fs/cgroup";

/// Main memory in bytes, where the system tells (Linux).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HostMemory {
    /// All that this process may have.
    pub total_bytes: u64,
    /// What it can have now without swapping, and without being killed for it.
    pub available_bytes: u64,
}

/// The names that a version of control groups has for the same numbers.
struct Names {
    /// Below [`GROUPS`].
    folder: &'static str,
    limit: &'static str,
    used: &'static str,
    /// Lines of `memory.stat`: contents of files, which make room whether anybody has looked at them lately or not, such as
    /// the weights of a model that ran before.
    files: [&'static str; 2],
}

const SECOND: Names = Names {
    folder: "",
    limit: "memory.max",
    used: "memory.current",
    files: ["inactive_file", "active_file"],
};
const FIRST: Names = Names {
    folder: "memory",
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    files: ["total_inactive_file", "total_active_file"],
};

impl HostMemory {
    /// What there is now; None where the system does not tell.
    pub fn detect() -> Option<Self> {
        let machine = Self::of_machine(&fs::read_to_string("/proc/meminfo").ok()?)?;
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Some(machine.within(&groups, Path::new(GROUPS)))
    }

    fn of_machine(meminfo: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self { total_bytes: field("MemTotal:")?, available_bytes: field("MemAvailable:")? })
    }

    /// What is left of it in the groups that `/proc/self/cgroup` names. The limit of every group that one is in holds.
    fn within(mut self, groups: &str, root: &Path) -> Self {
        for line in groups.lines() {
            // `0::/path` is of the second version, `4:memory,cpu:/path` of the first.
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let names = match controllers {
                "" => SECOND,
                list if list.split(',').any(|name| name == "memory") => FIRST,
                _ => continue,
            };
            let root = root.join(names.folder);
            let path = Path::new(path.trim_start_matches('/'));
            // A path that leads out is one that cannot be seen from here.
            let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
            let own = root.join(if inside { path } else { Path::new("") });
            // Within a container the path may be that of the host, and its own group is the root.
            for group in own.ancestors().take_while(|group| group.starts_with(&root)) {
                if let Some((limit, left)) = names.read(group) {
                    self.total_bytes = self.total_bytes.min(limit);
                    self.available_bytes = self.available_bytes.min(left);
                }
            }
        }
        self
    }
}

impl Names {
    /// A group's limit, and what is left of it; None if there is no such group, or no limit.
    fn read(&self, group: &Path) -> Option<(u64, u64)> {
        let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        let limit = number(self.limit)?;
        let used = number(self.used)?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let line = |name: &str| {
            stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        let files = self.files.iter().fold(0u64, |sum, name| sum.saturating_add(line(name)));
        Some((limit, limit.saturating_sub(used.saturating_sub(files))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: HostMemory = HostMemory { total_bytes: 64 << 30, available_bytes: 60 << 30 };

    fn group(root: &Path, path: &str, files: &[(&str, &str)]) {
        let folder = root.join(path);
        fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
    }

    #[test]
    fn the_machine_is_understood() {
        let memory = HostMemory::of_machine(
            "MemTotal:       24609284 kB\nMemFree: 1 kB\nMemAvailable:   22000000 kB\n",
        );
        let expected = HostMemory { total_bytes: 24609284 << 10, available_bytes: 22000000 << 10 };
        assert_eq!(memory, Some(expected));
        assert_eq!(HostMemory::of_machine("MemTotal: lots\n"), None);
    }

    #[test]
    fn the_narrowest_group_holds() {
        let root = tempfile::tempdir().unwrap();
        let stat = "anon 7\ninactive_file 1000\nactive_file 5\n";
        group(root.path(), "a.slice", &[("memory.max", "9000\n"), ("memory.current", "8500\n")]);
        let own = [("memory.max", "8000\n"), ("memory.current", "3000\n"), ("memory.stat", stat)];
        group(root.path(), "a.slice/b.scope", &own);
        group(root.path(), "free", &[("memory.max", "max\n"), ("memory.current", "3000\n")]);
        let within = |groups: &str| MACHINE.within(groups, root.path());
        let expected = HostMemory { total_bytes: 8000, available_bytes: 500 };
        assert_eq!(within("0::/a.slice/b.scope\n"), expected, "the parent has less left");
        assert_eq!(within("0::/free\n"), MACHINE);
        assert_eq!(within("0::/\n"), MACHINE);
        assert_eq!(within("0::/../../elsewhere\nnonsense\n"), MACHINE);
    }

    /// Pages of a file that were used twice count as active, and make room as well.
    #[test]
    fn weights_of_a_run_before_make_room() {
        let root = tempfile::tempdir().unwrap();
        let stat = "anon 1000\nfile 18000\ninactive_file 2000\nactive_file 16000\n";
        let own = [("memory.max", "32000\n"), ("memory.current", "19000\n"), ("memory.stat", stat)];
        group(root.path(), "a", &own);
        let expected = HostMemory { total_bytes: 32000, available_bytes: 31000 };
        assert_eq!(MACHINE.within("0::/a\n", root.path()), expected);
    }

    #[test]
    fn a_container_sees_its_group_as_the_root() {
        let root = tempfile::tempdir().unwrap();
        let own = [
            ("memory.limit_in_bytes", "8000\n"),
            ("memory.usage_in_bytes", "9000\n"),
            ("memory.stat", "inactive_file 1\ntotal_inactive_file 1000\ntotal_active_file 3000\n"),
        ];
        group(root.path(), "memory", &own);
        let expected = HostMemory { total_bytes: 8000, available_bytes: 3000 };
        assert_eq!(MACHINE.within("5:cpu:/\n4:memory:/docker/0123\n0::/\n", root.path()), expected);
        group(root.path(), "", &[("memory.max", "100\n"), ("memory.current", "200\n")]);
        assert_eq!(
            MACHINE.within("0::/\n", root.path()),
            HostMemory { total_bytes: 100, available_bytes: 0 }
        );
    }
}
