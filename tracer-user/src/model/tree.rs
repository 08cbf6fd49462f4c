//! The memory cgroups as a tree: each node knows the one above, so that growth reaches every limit
//! over a process in a few steps.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::cgroup::{Cgroup, parent_path};
use super::gauge::Gauge;
use super::process::NO_NODE;

/// Nodes above which no new cgroup is taken in: its processes count for the root only.
const MOST_NODES: usize = 1 << 16;
/// Levels above which a path hangs directly below the root.
const MOST_LEVELS: usize = 32;

/// One place in the hierarchy.
#[derive(Debug)]
pub(super) struct Node {
    pub cgroup: Cgroup,
    pub gauge: Gauge,
    /// An event told of it; otherwise it is only the way to one.
    pub is_known: bool,
    parent: u32,
    /// Processes in it and nodes below it.
    users: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
    by_path: FxHashMap<Arc<str>, u32>,
}

impl Tree {
    /// The node of a path, made with everything above it when there is none.
    pub fn intern(&mut self, path: &str) -> u32 {
        if let Some(at) = self.by_path.get(path) {
            return *at;
        }
        let mut missing = vec![path];
        let mut above = path;
        let mut parent = NO_NODE;
        while let Some(next) = parent_path(above) {
            above = if missing.len() < MOST_LEVELS { next } else { "/" };
            if let Some(at) = self.by_path.get(above) {
                parent = *at;
                break;
            }
            missing.push(above);
        }
        if self.by_path.len() + missing.len() > MOST_NODES {
            return self.by_path.get("/").copied().unwrap_or(NO_NODE);
        }
        for path in missing.into_iter().rev() {
            parent = self.insert(path, parent);
        }
        parent
    }

    /// The node of a path, if there is one.
    pub fn find(&self, path: &str) -> Option<u32> {
        self.by_path.get(path).copied()
    }

    /// A node.
    pub fn get(&self, at: u32) -> Option<&Node> {
        self.nodes.get(at as usize)?.as_ref()
    }

    /// A node.
    pub fn get_mut(&mut self, at: u32) -> Option<&mut Node> {
        self.nodes.get_mut(at as usize)?.as_mut()
    }

    /// A node and all above it, upwards.
    pub fn chain(&self, at: u32) -> impl Iterator<Item = &Node> {
        std::iter::successors(self.get(at), |node| self.get(node.parent))
    }

    /// Does something to a node and all above it.
    pub fn for_chain(&mut self, mut at: u32, mut each: impl FnMut(&mut Node)) {
        while let Some(node) = self.get_mut(at) {
            each(node);
            at = node.parent;
        }
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// All nodes.
    pub fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut().flatten()
    }

    /// A process or a node below uses this one.
    pub fn acquire(&mut self, at: u32) {
        if let Some(node) = self.get_mut(at) {
            node.users += 1;
        }
    }

    /// It does not any more.
    pub fn release(&mut self, at: u32) {
        if let Some(node) = self.get_mut(at) {
            node.users = node.users.saturating_sub(1);
        }
        self.drop_unused(at);
    }

    /// The cgroup was removed. Its node goes when the last process is gone, too.
    pub fn gone(&mut self, path: &str) {
        let Some(at) = self.find(path) else { return };
        if let Some(node) = self.get_mut(at) {
            node.is_known = false;
            node.cgroup = Cgroup::new(Arc::clone(&node.cgroup.path));
            node.gauge = Gauge::default();
        }
        self.drop_unused(at);
    }

    fn insert(&mut self, path: &str, parent: u32) -> u32 {
        let path: Arc<str> = Arc::from(path);
        let node = Node {
            cgroup: Cgroup::new(Arc::clone(&path)),
            gauge: Gauge::default(),
            is_known: false,
            parent,
            users: 0,
        };
        self.acquire(parent);
        let at = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            (self.nodes.len() - 1) as u32
        });
        self.nodes[at as usize] = Some(node);
        self.by_path.insert(path, at);
        at
    }

    fn drop_unused(&mut self, mut at: u32) {
        while let Some(node) = self.get_mut(at) {
            if node.users > 0 || node.is_known {
                return;
            }
            let parent = node.parent;
            if let Some(node) = self.nodes[at as usize].take() {
                self.by_path.remove(&node.cgroup.path);
                self.free.push(at);
            }
            if let Some(above) = self.get_mut(parent) {
                above.users = above.users.saturating_sub(1);
            }
            at = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(tree: &Tree, at: u32) -> Vec<String> {
        tree.chain(at).map(|node| node.cgroup.path.to_string()).collect()
    }

    #[test]
    fn a_node_knows_all_above() {
        let mut tree = Tree::default();
        let at = tree.intern("/web/php");
        assert_eq!(chain(&tree, at), ["/web/php", "/web", "/"]);
        let other = tree.intern("/web/db");
        assert_eq!(chain(&tree, other), ["/web/db", "/web", "/"]);
        assert_eq!(tree.nodes().count(), 4);
    }

    #[test]
    fn unused_nodes_go_with_the_way_to_them() {
        let mut tree = Tree::default();
        let at = tree.intern("/a/b/c");
        tree.acquire(at);
        tree.gone("/a/b/c");
        assert_eq!(tree.nodes().count(), 4);
        tree.release(at);
        assert_eq!(tree.nodes().count(), 0);
        assert!(tree.find("/a").is_none());
    }

    #[test]
    fn hostile_paths_are_bounded() {
        let mut tree = Tree::default();
        let deep = tree.intern(&"/x".repeat(100_000));
        assert!(tree.chain(deep).count() <= MOST_LEVELS + 1);
        for i in 0..2 * MOST_NODES {
            tree.intern(&format!("/{i}"));
        }
        assert!(tree.nodes().count() <= MOST_NODES);
    }
}
