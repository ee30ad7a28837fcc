//! ImageLocality: nodes that have the images already, weighed by size and by how many nodes have them.

use super::{Cluster, NodeInfo, Scale, Score, Waiting};

pub(super) struct ImageLocality;

/// Images smaller than this do not matter; larger ones than the second count as that.
const SIZE_MIN: i64 = 23 * 1024 * 1024;
const SIZE_MAX_PER_CONTAINER: i64 = 1000 * 1024 * 1024;

fn size(node: &NodeInfo<'_>, image: &str) -> Option<i64> {
    let images = node.node.status.iter().flat_map(|s| s.images.iter().flatten());
    images.filter(|i| i.names.iter().flatten().any(|n| is_same(n, image))).find_map(|i| i.size_bytes)
}

/// An image without a tag is the one tagged latest.
fn is_same(name: &str, image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or(image);
    name == image || (!last.contains([':', '@']) && name.strip_suffix(":latest") == Some(image))
}

impl Score for ImageLocality {
    fn score(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, cluster: &Cluster<'_>) -> i64 {
        let Some(spec) = &pod.pod.spec else { return 0 };
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let images: Vec<&str> = containers.filter_map(|c| c.image.as_deref()).collect();
        let nodes = i64::try_from(cluster.nodes.len()).unwrap_or(i64::MAX).max(1);
        let spread = |image: &str| cluster.nodes.iter().filter(|n| size(n, image).is_some()).count();
        let scaled = |image: &str, size: i64| size / nodes * i64::try_from(spread(image)).unwrap_or(0);
        let sum: i64 = images.iter().filter_map(|i| Some(scaled(i, size(node, i)?))).sum();
        let most = SIZE_MAX_PER_CONTAINER * i64::try_from(images.len()).unwrap_or(1).max(1);
        (sum.clamp(SIZE_MIN, most) - SIZE_MIN) * 100 / (most - SIZE_MIN)
    }
    fn weight(&self) -> i64 {
        1
    }
    fn scale(&self) -> Scale {
        Scale::Percent
    }
}
