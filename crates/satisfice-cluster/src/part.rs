//! A part of a graph, mapped: what one worker knows.

use crate::{
    ClusterError,
    crossing::{OutDegrees, out_degrees},
    error::no_refresh,
    manifest::{PartManifest, checksum},
    partition::{DEGREES, EDGES, FEATURES, IDS, NODES, OWNERS},
};
use satisfice_graph::{
    DegreeScale, Degrees, DistantGraph, GnnModel, GraphError, ModelDir, NodeDegrees, Plan, Profile,
};
use satisfice_kernels::Rows;
use satisfice_store::{Check, FileRecord, NodeIdTable, TensorFile};
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// A part of a graph with its model and whatever tables are there.
///
/// Nothing of the size of the graph is copied; the page cache is shared by all processes that serve it.
#[derive(Debug)]
pub struct Part {
    dir: PathBuf,
    manifest: PartManifest,
    model: GnnModel,
    model_dir: ModelDir,
    ids: NodeIdTable,
    owners: TensorFile,
    degree_file: TensorFile,
    /// Nodes of the graph with self-loops, ascending, and how many.
    loops: Vec<(u32, u32)>,
    nodes: TensorFile,
    edges: TensorFile,
    features: TensorFile,
    /// Values of the levels 1 .. K-1 (and 0 where they are not the features), by level.
    levels: Vec<OnceLock<TensorFile>>,
    /// Messages of the layers 1 .. K, where they are not the values.
    messages: Vec<OnceLock<TensorFile>>,
    /// What the layers 1 .. K-1 reduce the sources of each node to, where it is kept.
    kept: Vec<OnceLock<TensorFile>>,
    /// What the first layer adds of the nodes' own values, where it is kept.
    own: OnceLock<TensorFile>,
    kinds: Vec<DegreeScale>,
    /// For each kind: the factor of every node of the part, without a batch.
    scales: Vec<Vec<f32>>,
    out_edges: OnceLock<OutEdges>,
    /// Nodes of the whole graph by out-degree.
    out_degrees: OnceLock<OutDegrees>,
}

/// Targets of each node of the part, by row.
#[derive(Debug)]
struct OutEdges {
    ends: Vec<u64>,
    targets: Vec<u32>,
}

impl Part {
    /// Opens the part in `dir` and checks it.
    ///
    /// # Errors
    /// It is damaged, contradicts itself or holds another model than its manifest says.
    pub fn open(dir: &Path, check: Check) -> Result<Self, ClusterError> {
        let manifest = PartManifest::read(dir)?;
        let wrong = |message: String| ClusterError::Part {
            path: dir.to_owned(),
            message,
        };
        let model_dir = ModelDir::open(dir, None)?;
        if model_dir.fingerprint()? != manifest.model {
            return Err(wrong(
                "it holds another model than it was made with".to_owned(),
            ));
        }
        let model = GnnModel::load(model_dir.config(), &model_dir.weights_path())?;
        let open = |name: &str| -> Result<TensorFile, ClusterError> {
            let record = manifest
                .file(name)
                .ok_or_else(|| wrong(format!("its manifest does not list {name}")))?;
            open_file(dir, record, check)
        };
        let ids = NodeIdTable::open(
            dir,
            manifest.ids,
            manifest.file(IDS),
            manifest.graph_nodes,
            check,
        )?;
        let tables = || (0..model.layers()).map(|_| OnceLock::new()).collect();
        let mut part = Self {
            owners: open(OWNERS)?,
            degree_file: open(DEGREES)?,
            loops: Vec::new(),
            nodes: open(NODES)?,
            edges: open(EDGES)?,
            features: open(FEATURES)?,
            levels: tables(),
            messages: tables(),
            kept: tables(),
            own: OnceLock::new(),
            kinds: model.scales(),
            scales: Vec::new(),
            out_edges: OnceLock::new(),
            out_degrees: OnceLock::new(),
            dir: dir.to_owned(),
            ids,
            model_dir,
            model,
            manifest,
        };
        part.loops = part.check_degrees().map_err(wrong)?;
        part.check_graph().map_err(wrong)?;
        for record in part.manifest.tables.clone() {
            part.open_table(&record, check)?;
        }
        let view = part.view()?;
        let factor = |kind: &DegreeScale| {
            let rows = 0..view.nodes.len() as u32;
            rows.map(|row| kind.of(view.degrees(row))).collect()
        };
        part.scales = part.kinds.iter().map(factor).collect();
        part.check_files()?;
        Ok(part)
    }

    /// Whether everything that was read of the part so far was the part's: whoever gives away what was made of it looks
    /// first.
    ///
    /// # Errors
    /// [`StoreError::Lost`](satisfice_store::StoreError::Lost) once a file was truncated or changed in place.
    pub fn check_files(&self) -> Result<(), ClusterError> {
        self.ids.check_files()?;
        let tables = [&self.levels, &self.messages, &self.kept];
        let tables = tables.into_iter().flatten().chain([&self.own]);
        let files = [&self.owners, &self.degree_file, &self.nodes];
        for file in files
            .into_iter()
            .chain([&self.edges, &self.features])
            .chain(tables.filter_map(OnceLock::get))
        {
            file.check()?;
        }
        Ok(())
    }

    /// Maps a table that is finished.
    fn open_table(&self, record: &FileRecord, check: Check) -> Result<(), ClusterError> {
        let file = open_file(&self.dir, record, check)?;
        let wrong = |message: String| ClusterError::Part {
            path: self.dir.join(&record.name),
            message,
        };
        let (kind, number) = record.name.split_at(1);
        let number = number.strip_suffix(".safetensors").unwrap_or_default();
        let number: usize = number
            .parse()
            .map_err(|_| wrong("it is no table of a model".to_owned()))?;
        let (slot, width, tensor) = match kind {
            "h" if number < self.model.layers() => {
                (&self.levels[number], self.model.level_width(number), "h")
            }
            "m" if (1..=self.model.layers()).contains(&number) => (
                &self.messages[number - 1],
                self.model.message_width(number),
                "m",
            ),
            "s" if (1..self.model.layers()).contains(&number) => {
                let split = self.model.split_layer(number - 1);
                (&self.kept[number - 1], split.partial_width(), "s")
            }
            "o" if number == 1 && self.model.split_layer(0).own_width() > 0 => {
                (&self.own, self.model.split_layer(0).own_width(), "o")
            }
            _ => return Err(wrong("it is no table of the model".to_owned())),
        };
        let rows = file.rows(tensor)?;
        let (found, wanted) = ([rows.len(), rows.width()], [self.manifest.nodes, width]);
        if found != wanted {
            return Err(wrong(format!("shape {found:?}, but it needs {wanted:?}")));
        }
        // A table that is there already is the same: it is computed once.
        let _ = slot.set(file);
        Ok(())
    }

    /// Adds a table that has just been finished, for this process and for later ones.
    pub(crate) fn add_table(&self, record: &FileRecord) -> Result<(), ClusterError> {
        let mut manifest = PartManifest::read(&self.dir)?;
        manifest.tables.retain(|table| table.name != record.name);
        manifest.tables.push(record.clone());
        manifest.write(&self.dir)?;
        self.open_table(record, Check::Structure)
    }

    /// The self-loops of all nodes, when the degrees are sound; or what is wrong with them.
    fn check_degrees(&self) -> Result<Vec<(u32, u32)>, String> {
        let text = |e: satisfice_store::StoreError| e.to_string();
        let (nodes, edges) = (self.manifest.graph_nodes, self.manifest.graph_edges);
        let file = &self.degree_file;
        let indptr = file.vector::<u64>("indptr", nodes + 1).map_err(text)?;
        if indptr[0] != 0 || !indptr.is_sorted() || indptr[nodes] != edges as u64 {
            return Err("its in-degrees are not those of the graph".to_owned());
        }
        let out_degree = file.vector::<u32>("out_degree", nodes).map_err(text)?;
        if out_degree.iter().map(|&d| u64::from(d)).sum::<u64>() != edges as u64 {
            return Err("its out-degrees are not those of the graph".to_owned());
        }
        let with_loops = file.slice::<u32>("loop_nodes").map_err(text)?;
        let counts = file.vector::<u32>("loop_counts", with_loops.len());
        let loops = with_loops.iter().copied();
        let loops: Vec<_> = loops.zip(counts.map_err(text)?.iter().copied()).collect();
        let fits = |&(node, count): &(u32, u32)| {
            let node = node as usize;
            node < nodes && u64::from(count) <= indptr[node + 1] - indptr[node]
        };
        match loops.is_sorted_by(|a, b| a.0 < b.0) && loops.iter().all(fits) {
            true => Ok(loops),
            false => Err("its self-loops are not those of the graph".to_owned()),
        }
    }

    /// What is wrong with the graph's files, if anything: nothing that passes makes a reader fail.
    fn check_graph(&self) -> Result<(), String> {
        let text = |e: satisfice_store::StoreError| e.to_string();
        let manifest = &self.manifest;
        let owners = self
            .owners
            .vector::<u8>("owners", manifest.graph_nodes)
            .map_err(text)?;
        if checksum(owners) != manifest.map {
            return Err("the owners are not those of the partition map".to_owned());
        }
        let of_part = |&(_, &owner): &(usize, &u8)| owner as usize == manifest.part;
        let owned = owners.iter().enumerate().filter(of_part);
        let nodes = self
            .nodes
            .vector::<u32>("nodes", manifest.nodes)
            .map_err(text)?;
        if !owned.map(|(node, _)| node as u32).eq(nodes.iter().copied()) {
            return Err("its nodes are not those that the owners say".to_owned());
        }
        let targets = self.edges.slice::<u32>("targets").map_err(text)?;
        let indptr = self
            .edges
            .vector::<u64>("indptr", targets.len() + 1)
            .map_err(text)?;
        let sources = self
            .edges
            .vector::<u32>("sources", manifest.edges)
            .map_err(text)?;
        let ascending = targets.is_sorted_by(|a, b| a < b);
        if !ascending
            || targets
                .last()
                .is_some_and(|&t| t as usize >= manifest.graph_nodes)
        {
            return Err("the targets of its edges are not ascending nodes".to_owned());
        }
        if !indptr.is_sorted() || indptr[0] != 0 || indptr.last() != Some(&(sources.len() as u64)) {
            return Err("its edges do not end where they should".to_owned());
        }
        if sources.iter().any(|&row| row as usize >= manifest.nodes) {
            return Err("an edge comes from a node that it does not own".to_owned());
        }
        let features = self.features.rows("x").map_err(text)?;
        if [features.len(), features.width()] != [manifest.nodes, manifest.features]
            || manifest.features != self.model.features()
        {
            return Err("its features do not fit the graph and the model".to_owned());
        }
        Ok(())
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &PartManifest {
        &self.manifest
    }

    /// The model.
    pub fn model(&self) -> &GnnModel {
        &self.model
    }

    /// The model's directory, which is the part's.
    pub fn model_dir(&self) -> &ModelDir {
        &self.model_dir
    }

    /// Ids of all nodes of the graph.
    pub fn ids(&self) -> satisfice_store::NodeIds<'_> {
        self.ids.ids()
    }

    /// Owner of every node of the graph, `[nodes]`.
    ///
    /// # Errors
    /// The file is not what it was when it was opened.
    pub fn owners(&self) -> Result<&[u8], ClusterError> {
        Ok(self.owners.slice("owners")?)
    }

    /// Degrees of all nodes of the graph, without a batch.
    pub(crate) fn degrees(&self) -> Result<NodeDegrees<'_>, ClusterError> {
        Ok(NodeDegrees {
            indptr: self.degree_file.slice("indptr")?,
            out_degree: self.degree_file.slice("out_degree")?,
            loops: &self.loops,
        })
    }

    /// Nodes of the whole graph by out-degree.
    pub(crate) fn out_degrees(&self) -> Result<&OutDegrees, ClusterError> {
        let degrees = self.degrees()?.out_degree;
        let count = || out_degrees(degrees.iter().copied());
        Ok(self.out_degrees.get_or_init(count))
    }

    /// The graph as promises are made from it: all degrees, and the part's rows of the tables.
    pub(crate) fn distant_graph(&self) -> Result<DistantGraph<'_>, ClusterError> {
        let layers = 0..self.model.layers();
        let messages = |layer: usize| match self.model.split_layer(layer).makes_messages() {
            true => self.message_rows(layer).map(Some),
            false => Ok(None),
        };
        Ok(DistantGraph {
            model: &self.model,
            degrees: self.degrees()?,
            levels: layers
                .clone()
                .map(|l| self.level(l))
                .collect::<Result<_, _>>()?,
            messages: layers.clone().map(messages).collect::<Result<_, _>>()?,
            reduced: layers
                .map(|l| self.kept_rows(l))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The profile of the model, where the tables are those that it was measured with.
    pub(crate) fn profile(&self) -> Result<Option<Profile>, GraphError> {
        match &self.manifest.embeddings {
            None => Ok(None),
            Some(embeddings) => {
                Profile::read_elsewhere(&self.model_dir, &self.manifest.store, embeddings)
            }
        }
    }

    /// Names of the tables that a model needs and that are not there.
    pub fn missing_tables(&self) -> Vec<String> {
        let model = &self.model;
        let mut missing = Vec::new();
        for level in 0..model.layers() {
            let needs_values = level > 0 || model.has_input();
            if needs_values && self.levels[level].get().is_none() {
                missing.push(format!("h{level}"));
            }
            if model.split_layer(level).makes_messages() && self.messages[level].get().is_none() {
                missing.push(format!("m{}", level + 1));
            }
        }
        missing
    }

    /// Its files as slices.
    pub(crate) fn view(&self) -> Result<PartView<'_>, ClusterError> {
        Ok(PartView {
            part: self,
            owners: self.owners.slice("owners")?,
            degrees: self.degrees()?,
            nodes: self.nodes.slice("nodes")?,
            targets: self.edges.slice("targets")?,
            indptr: self.edges.slice("indptr")?,
            sources: self.edges.slice("sources")?,
        })
    }

    pub(crate) fn kinds(&self) -> &[DegreeScale] {
        &self.kinds
    }

    /// For each kind of degree scale: the factor of every node of the part, without a batch.
    pub(crate) fn scales(&self) -> &[Vec<f32>] {
        &self.scales
    }

    /// Values of a level 0 .. K-1, `[nodes, width]`.
    pub(crate) fn level(&self, level: usize) -> Result<Rows<'_>, ClusterError> {
        match self.levels[level].get() {
            Some(file) => Ok(file.rows("h")?),
            None if level == 0 && !self.model.has_input() => Ok(self.features.rows("x")?),
            None => Err(self.missing(&format!("h{level}"))),
        }
    }

    pub(crate) fn features(&self) -> Result<Rows<'_>, ClusterError> {
        Ok(self.features.rows("x")?)
    }

    /// Messages of a layer (from 0), `[nodes, width]`; its values where they are the messages.
    pub(crate) fn message_rows(&self, layer: usize) -> Result<Rows<'_>, ClusterError> {
        match self.messages[layer].get() {
            Some(file) => Ok(file.rows("m")?),
            None if !self.model.split_layer(layer).makes_messages() => {
                self.level(self.model.level_read(layer))
            }
            None => Err(self.missing(&format!("m{}", layer + 1))),
        }
    }

    /// What a layer (from 0) reduces the sources of each node to, `[nodes, partial width]`, where it is kept;
    /// 0 where there is no source.
    pub(crate) fn kept_rows(&self, layer: usize) -> Result<Option<Rows<'_>>, ClusterError> {
        let file = self.kept[layer].get();
        Ok(file.map(|file| file.rows("s")).transpose()?)
    }

    /// What a layer (from 0) adds of the nodes' own values, `[nodes, own width]`, where it is kept.
    pub(crate) fn own_terms(&self, layer: usize) -> Result<Option<Rows<'_>>, ClusterError> {
        let file = self.own.get().filter(|_| layer == 0);
        Ok(file.map(|file| file.rows("o")).transpose()?)
    }

    /// The layers (from 1) of which it is kept what they reduce the sources of each node to.
    pub(crate) fn kept_layers(&self) -> Vec<usize> {
        let kept = |layer: &usize| self.kept[layer - 1].get().is_some();
        (1..=self.kept.len()).filter(kept).collect()
    }

    /// Whether the plan can be answered: `refresh` starts from what is kept.
    pub(crate) fn check_plan(&self, plan: Plan) -> Result<(), ClusterError> {
        match plan == Plan::Refresh && self.kept_layers().len() + 1 < self.model.layers() {
            true => Err(no_refresh()),
            false => Ok(()),
        }
    }

    fn missing(&self, table: &str) -> ClusterError {
        ClusterError::Part {
            path: self.dir.clone(),
            message: format!("the table {table} is not there: precompute it"),
        }
    }
}

fn open_file(dir: &Path, record: &FileRecord, check: Check) -> Result<TensorFile, ClusterError> {
    if check == Check::Checksums {
        record.verify(dir)?;
    }
    let file = TensorFile::open(&dir.join(&record.name))?;
    match file.len_bytes() == record.bytes {
        true => Ok(file),
        false => Err(ClusterError::Part {
            path: dir.join(&record.name),
            message: format!("{} bytes, but it had {}", file.len_bytes(), record.bytes),
        }),
    }
}

/// A part's files as slices.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartView<'a> {
    pub part: &'a Part,
    /// Owner of every node of the graph.
    pub owners: &'a [u8],
    /// Nodes of the part, ascending; a node's place is its row.
    pub nodes: &'a [u32],
    degrees: NodeDegrees<'a>,
    targets: &'a [u32],
    indptr: &'a [u64],
    sources: &'a [u32],
}

impl<'a> PartView<'a> {
    /// The row of a node, if the part owns it.
    pub(crate) fn row(&self, node: u32) -> Option<u32> {
        self.nodes.binary_search(&node).ok().map(|row| row as u32)
    }

    /// Degrees of a row in the whole graph, without a batch.
    pub(crate) fn degrees(&self, row: u32) -> Degrees {
        self.degrees.of(self.nodes[row as usize])
    }

    /// Whether a row has stored in-edges, leaving out those from itself where `without_self`.
    pub(crate) fn has_sources(&self, row: u32, without_self: bool) -> bool {
        let degrees = self.degrees(row);
        degrees.incoming > if without_self { degrees.loops } else { 0 }
    }

    /// Rows of the part with an edge to a node of the graph.
    pub(crate) fn sources(&self, target: u32) -> &'a [u32] {
        match self.targets.binary_search(&target) {
            Ok(at) => &self.sources[self.indptr[at] as usize..self.indptr[at + 1] as usize],
            Err(_) => &[],
        }
    }

    /// Nodes that a row has edges to. The first call turns the part's edges round: 4 bytes an edge.
    pub(crate) fn out_targets(&self, row: u32) -> &'a [u32] {
        let out = self.part.out_edges.get_or_init(|| self.turn_round());
        let start = match row {
            0 => 0,
            _ => out.ends[row as usize - 1],
        };
        &out.targets[start as usize..out.ends[row as usize] as usize]
    }

    fn turn_round(&self) -> OutEdges {
        let mut next = vec![0_u64; self.nodes.len()];
        for &row in self.sources {
            next[row as usize] += 1;
        }
        let mut start = 0;
        for count in &mut next {
            start += std::mem::replace(count, start);
        }
        let mut targets = vec![0; self.sources.len()];
        for (at, &target) in self.targets.iter().enumerate() {
            for &row in &self.sources[self.indptr[at] as usize..self.indptr[at + 1] as usize] {
                targets[next[row as usize] as usize] = target;
                next[row as usize] += 1;
            }
        }
        OutEdges {
            ends: next,
            targets,
        }
    }
}
