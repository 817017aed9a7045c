//! System calls that a command cannot make.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Installs the filters, for this thread and all that it starts.
///
/// Without a network namespace of its own, the command can make no sockets but those between its own
/// processes: `connect` is closed too, because a socket in the file system may lead to a service that
/// can do everything, such as a container runtime. With one, where such sockets are hidden, only families
/// that do not belong to a network namespace are closed.
pub(super) fn install(own_network: bool) -> Result<(), Box<dyn std::error::Error>> {
    let families: &[i32] = match own_network {
        true => &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK],
        false => &[libc::AF_UNIX],
    };
    let mut closed = vec![(libc::SYS_socket, vec![none_of(families)?])];
    if !own_network {
        closed.push((libc::SYS_connect, vec![]));
        // A datagram can name its receiver without a connection.
        closed.push((libc::SYS_sendto, vec![with_receiver()?]));
    }
    apply(closed, libc::EACCES)?;
    apply(ABSENT.map(|call| (call, vec![])).into(), libc::ENOSYS)?;
    // Space is then taken by writing, which is counted.
    apply(vec![(libc::SYS_fallocate, vec![])], libc::EOPNOTSUPP)
}

/// Calls that are as if this kernel did not have them. The rings of io_uring can make sockets without a
/// call that could be looked at; memory that belongs to no process and no file is counted nowhere; and
/// the others are ways into the kernel that no compiler and no test takes.
const ABSENT: [libc::c_long; 18] = [
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_kexec_load,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_pivot_root,
    libc::SYS_setns,
];

type Calls = Vec<(libc::c_long, Vec<SeccompRule>)>;

fn apply(calls: Calls, errno: i32) -> Result<(), Box<dyn std::error::Error>> {
    let mut rules = BTreeMap::new();
    for (call, conditions) in calls {
        // Numbers of the x32 interface, which some kernels have beside the ordinary one.
        #[cfg(target_arch = "x86_64")]
        rules.insert(call | 0x4000_0000, conditions.clone());
        rules.insert(call, conditions);
    }
    let action = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

fn none_of(families: &[i32]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = families.iter().map(|family| {
        let family = u64::from(family.unsigned_abs());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

fn with_receiver() -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?])
}
