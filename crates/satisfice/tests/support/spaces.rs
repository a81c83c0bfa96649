//! Network namespaces: a network of machines, each with an address of its own, on one.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Namespaces on one bridge; removed when dropped.
pub struct Spaces {
    bridge: String,
    /// The network's address is `10.78.<network>.0/24`.
    network: u32,
    count: usize,
}

/// Whether `ip` does what the words say.
fn ip(words: &str) -> bool {
    let command = Command::new("ip")
        .args(words.split(' '))
        .stderr(Stdio::null())
        .status();
    command.is_ok_and(|status| status.success())
}

impl Spaces {
    /// Nothing where they are not permitted: they need root and iproute2.
    pub fn new(count: usize) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id().wrapping_mul(16) + NEXT.fetch_add(1, Ordering::Relaxed);
        let network = number % 250;
        let spaces = Self {
            bridge: format!("sft{}", number % 100_000),
            network,
            count,
        };
        spaces.build().then_some(spaces)
    }

    fn build(&self) -> bool {
        let (bridge, network) = (&self.bridge, self.network);
        ip(&format!("link add {bridge} type bridge"))
            && ip(&format!("addr add 10.78.{network}.254/24 dev {bridge}"))
            && ip(&format!("link set {bridge} up"))
            && (0..self.count).all(|node| {
                let (space, end) = (self.space(node), format!("{bridge}.{node}"));
                let host = node + 1;
                ip(&format!("netns add {space}"))
                    && ip(&format!(
                        "link add {end} type veth peer name eth0 netns {space}"
                    ))
                    && ip(&format!("link set {end} master {bridge} up"))
                    && ip(&format!(
                        "-n {space} addr add 10.78.{network}.{host}/24 dev eth0"
                    ))
                    && ip(&format!("-n {space} link set eth0 up"))
                    && ip(&format!("-n {space} link set lo up"))
            })
    }

    fn space(&self, node: usize) -> String {
        format!("{}-{node}", self.bridge)
    }

    /// Where a node is reached.
    pub fn address(&self, node: usize, port: u16) -> String {
        format!("10.78.{}.{}:{port}", self.network, node + 1)
    }

    /// A command as it runs in a node's namespace.
    pub fn within(&self, node: usize, program: &OsStr) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.space(node)])
            .arg(program);
        command
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for node in 0..self.count {
            ip(&format!("netns del {}", self.space(node)));
        }
        ip(&format!("link del {}", self.bridge));
    }
}
