//! Waiting until nobody in the kernel can still use what was taken away. Packets walk rules, and eBPF programs look into
//! maps, within read-side critical sections of RCU.

use std::time::Duration;

use rustix::thread::MembarrierCommand;

/// No packet takes that long through the rules.
const WITHOUT_MEMBARRIER: Duration = Duration::from_millis(20);

/// A grace period of RCU: whoever began before has ended. `membarrier` waits for it (some 6 ms); with one processor it
/// does not, nor where the kernel keeps processors free of ticks (membarrier(2), MEMBARRIER_CMD_GLOBAL).
pub fn period() {
    let alone = std::thread::available_parallelism().is_ok_and(|n| n.get() == 1);
    if alone || rustix::thread::membarrier(MembarrierCommand::Global).is_err() {
        std::thread::sleep(WITHOUT_MEMBARRIER);
    }
}
