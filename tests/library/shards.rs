//! The simulation of many shards.

#[path = "../../tools/shards.rs"]
#[allow(dead_code, reason = "its main function prints the rest")]
mod simulation;

#[test]
fn simulated_shards_add_up_and_follow_from_their_seed() {
    let runs = [1, 10].map(simulation::simulate);
    for run in &runs {
        // 167/s for ten seconds, each.
        assert_eq!((run.arrivals, run.faulty), (1_670 * run.shards, 0), "{}", simulation::row(run));
        assert_eq!(simulation::row(run), simulation::row(&simulation::simulate(run.shards)));
    }
    let [one, ten] = &runs;
    // Histograms add up: the merged run is not as large as its parts.
    assert!(ten.merged_bytes < 5 * one.merged_bytes, "{} and {}", ten.merged_bytes, one.merged_bytes);
    assert!(ten.offset_us > 0 && ten.apart_us > 0);
}
