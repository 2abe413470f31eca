package org.example.shop;

import com.sun.management.GarbageCollectionNotificationInfo;
import java.lang.management.GarbageCollectorMXBean;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryUsage;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import javax.management.NotificationEmitter;
import javax.management.openmbean.CompositeData;

/** Pauses, promotion and live data from the collectors' own notifications, counted as Micrometer counts them. */
final class GarbageCollectorMetrics {
    record Pause(String action, String cause, String collector) {}

    static final class Total {
        long count;
        double seconds;
        double maximumSeconds;
    }

    private final Map<Pause, Total> pauses = new ConcurrentHashMap<>();
    private volatile long promotedBytes;
    private volatile long allocatedBytes;
    private volatile long liveDataBytes;
    private volatile long maximumDataBytes;
    private long youngAfterLast;

    GarbageCollectorMetrics() {
        for (GarbageCollectorMXBean collector : ManagementFactory.getGarbageCollectorMXBeans()) {
            ((NotificationEmitter) collector).addNotificationListener((notification, handback) -> {
                if (notification.getType().equals(GarbageCollectionNotificationInfo.GARBAGE_COLLECTION_NOTIFICATION)) {
                    observe(GarbageCollectionNotificationInfo.from((CompositeData) notification.getUserData()));
                }
            }, null, null);
        }
    }

    private synchronized void observe(GarbageCollectionNotificationInfo info) {
        double seconds = info.getGcInfo().getDuration() / 1000.0;
        Pause pause = new Pause(info.getGcAction(), info.getGcCause(), info.getGcName());
        Total total = pauses.computeIfAbsent(pause, key -> new Total());
        total.count++;
        total.seconds += seconds;
        total.maximumSeconds = Math.max(total.maximumSeconds, seconds);
        Map<String, MemoryUsage> before = info.getGcInfo().getMemoryUsageBeforeGc();
        Map<String, MemoryUsage> after = info.getGcInfo().getMemoryUsageAfterGc();
        long oldBefore = used(before, true);
        long oldAfter = used(after, true);
        promotedBytes += Math.max(0, oldAfter - oldBefore);
        allocatedBytes += Math.max(0, used(before, false) - youngAfterLast);
        youngAfterLast = used(after, false);
        if (oldAfter < oldBefore || info.getGcAction().equals("end of major GC")) {
            liveDataBytes = oldAfter;
            maximumDataBytes = after.entrySet().stream().filter(pool -> old(pool.getKey()))
                    .mapToLong(pool -> pool.getValue().getMax()).sum();
        }
    }

    private static long used(Map<String, MemoryUsage> pools, boolean wantOld) {
        return pools.entrySet().stream()
                .filter(pool -> wantOld ? old(pool.getKey()) : pool.getKey().contains("Eden"))
                .mapToLong(pool -> pool.getValue().getUsed()).sum();
    }

    private static boolean old(String pool) {
        return pool.contains("Old Gen") || pool.contains("Tenured Gen");
    }

    synchronized void write(StringBuilder page) {
        MetricsPage.type(page, "jvm_gc_pause_seconds", "summary");
        pauses.forEach((pause, total) -> {
            String labels = "action=\"" + pause.action() + "\",cause=\"" + pause.cause() + "\",gc=\"" + pause.collector() + "\"";
            MetricsPage.sample(page, "jvm_gc_pause_seconds_count", labels, total.count);
            MetricsPage.sample(page, "jvm_gc_pause_seconds_sum", labels, total.seconds);
        });
        MetricsPage.type(page, "jvm_gc_pause_seconds_max", "gauge");
        pauses.forEach((pause, total) -> MetricsPage.sample(page, "jvm_gc_pause_seconds_max", "action=\"" + pause.action()
                + "\",cause=\"" + pause.cause() + "\",gc=\"" + pause.collector() + "\"", total.maximumSeconds));
        MetricsPage.counter(page, "jvm_gc_memory_promoted_bytes_total", promotedBytes);
        MetricsPage.counter(page, "jvm_gc_memory_allocated_bytes_total", allocatedBytes);
        MetricsPage.gauge(page, "jvm_gc_live_data_size_bytes", liveDataBytes);
        MetricsPage.gauge(page, "jvm_gc_max_data_size_bytes", maximumDataBytes);
    }
}
