"""seccomp: a filter of system calls that no fold needs and that lead out of it. The kernel answers them with EPERM.

What is left reads, writes and maps files, starts processes and computes. There is no library for this that installs
everywhere: libseccomp's bindings need the C library. The numbers are those of the kernel's tables
(`asm/unistd_64.h`, `asm-generic/unistd.h`); from 424 on, they are the same everywhere.
"""

from __future__ import annotations

import ctypes
import errno
import platform
from typing import NamedTuple

# Of x86-64, and of 64-bit ARM; None where the call does not exist.
NETWORK = {
    "socket": (41, 198), "socketpair": (53, 199), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "connect": (42, 203),
}  # fmt: skip
NAMESPACES = {
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "mknod": (133, None), "mknodat": (259, 33),
}  # fmt: skip
OTHER_PROCESSES = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "migrate_pages": (256, 238), "move_pages": (279, 239), "setpriority": (141, 140), "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
}  # fmt: skip
# Memory that no limit of the process counts.
UNCOUNTED = {
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180),
}  # fmt: skip
# Parts of the kernel that are large, or for its administrator.
KERNEL = {
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "sethostname": (170, 161), "setdomainname": (171, 162), "acct": (163, 89),
    "quotactl": (179, 60), "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "personality": (135, 92), "vhangup": (153, 58),
    "fanotify_init": (300, 262), "inotify_init": (253, None), "inotify_init1": (294, 26), "iopl": (172, None),
    "ioperm": (173, None), "modify_ldt": (154, None),
}  # fmt: skip
# What Landlock does not decide about: a fold could take a file from the server by its mode.
METADATA = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "truncate": (76, 45), "setxattrat": (463, 463), "removexattrat": (466, 466), "file_setattr": (469, 469),
}  # fmt: skip
DENIED = NETWORK | NAMESPACES | OTHER_PROCESSES | UNCOUNTED | KERNEL

CLONE, CLONE3, PRLIMIT, IOCTL = (56, 220), 435, (302, 261), (16, 29)
NEW_NAMESPACES = 0x7E020080  # every CLONE_NEW... of linux/sched.h
TYPE_INTO_TERMINAL = 0x5412  # TIOCSTI
X32 = 0x40000000  # the first number of x86-64's second table


class Machine(NamedTuple):
    """What differs between machines."""

    column: int  # in the tables above
    audit: int  # AUDIT_ARCH_..., linux/audit.h
    seccomp: int  # the number of the call


MACHINES = {"x86_64": Machine(0, 0xC000003E, 317), "aarch64": Machine(1, 0xC00000B7, 277)}

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF instructions, linux/bpf_common.h
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data; the low half of an argument comes first
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000  # SECCOMP_RET_...
SET_FILTER, ALL_THREADS, NO_SPECULATION_PENALTY = 1, 1, 4  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_...


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def is_known() -> bool:
    """Whether there is a filter for this machine."""
    return platform.machine() in MACHINES


def restrict(*, metadata: bool) -> None:
    """Install the filter in all threads of this process, for good. `metadata` is whether files may be changed by it.

    Raises:
        OSError: the kernel refuses the filter, or `is_known` is false.
    """
    machine = MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, "there is no filter for this machine")
    lines = _filter(machine, DENIED if metadata else DENIED | METADATA)
    program = _Program(len(lines), (_Instruction * len(lines))(*(_Instruction(*line) for line in lines)))
    flags = ALL_THREADS | NO_SPECULATION_PENALTY
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(machine.seccomp, SET_FILTER, flags, ctypes.byref(program)) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refuses the filter")


def _filter(machine: Machine, denied: dict[str, tuple[int, int | None]]) -> list[tuple[int, int, int, int]]:
    """The instructions: (code, jump if true, jump if false, operand)."""
    column = machine.column
    lines = [(LOAD, 0, 0, ARCHITECTURE_AT), (EQUAL, 1, 0, machine.audit), (RETURN, 0, 0, KILL)]
    lines += [(LOAD, 0, 0, NUMBER_AT), (AT_LEAST, 0, 1, X32), (RETURN, 0, 0, REFUSE | errno.EPERM)]
    lines += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, REFUSE | errno.ENOSYS)]  # then the C library uses clone
    for numbers in denied.values():
        if (number := numbers[column]) is not None:
            lines += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE | errno.EPERM)]
    for number, argument, code, operand in (
        (CLONE[column], 0, ANY_BIT, NEW_NAMESPACES),
        (IOCTL[column], 1, EQUAL, TYPE_INTO_TERMINAL),
    ):
        lines += [(EQUAL, 0, 3, number), (LOAD, 0, 0, ARGUMENTS_AT + 8 * argument)]
        lines += [(code, 0, 1, operand), (RETURN, 0, 0, REFUSE | errno.EPERM), (LOAD, 0, 0, NUMBER_AT)]
    # The limits of this process only: it may be of the same user as the server.
    lines += [(EQUAL, 0, 3, PRLIMIT[column]), (LOAD, 0, 0, ARGUMENTS_AT), (EQUAL, 1, 0, 0)]
    lines += [(RETURN, 0, 0, REFUSE | errno.EPERM), (RETURN, 0, 0, ALLOW)]
    return lines
