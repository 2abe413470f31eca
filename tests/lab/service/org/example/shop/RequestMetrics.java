package org.example.shop;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.BiConsumer;

/** Counts and durations by method, URI template and status: Micrometer's {@code http.server.requests}. */
final class RequestMetrics {
    record Key(String method, String uri, int status) {
        String labels() {
            String outcome = switch (status / 100) {
                case 2 -> "SUCCESS";
                case 4 -> "CLIENT_ERROR";
                default -> "SERVER_ERROR";
            };
            return "error=\"none\",exception=\"none\",method=\"" + method + "\",outcome=\"" + outcome + "\",status=\""
                    + status + "\",uri=\"" + uri + "\"";
        }
    }

    static final class Timer {
        private final LongAdder count = new LongAdder();
        private final LongAdder nanos = new LongAdder();
        private volatile long maximumNanos;

        long count() {
            return count.sum();
        }

        double seconds() {
            return nanos.sum() / 1e9;
        }

        double maximumSeconds() {
            return maximumNanos / 1e9;
        }
    }

    private final Map<Key, Timer> timers = new ConcurrentHashMap<>();

    void count(String method, String uri, int status, long nanos) {
        Timer timer = timers.computeIfAbsent(new Key(method, uri, status), key -> new Timer());
        timer.count.increment();
        timer.nanos.add(nanos);
        timer.maximumNanos = Math.max(timer.maximumNanos, nanos);
    }

    void each(BiConsumer<Key, Timer> visitor) {
        timers.forEach(visitor);
    }
}
