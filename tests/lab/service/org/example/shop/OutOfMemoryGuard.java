package org.example.shop;

import java.util.concurrent.atomic.AtomicInteger;

/**
 * What the service does when the JVM really runs out of memory: say it in the log, fail the request, and after a few of
 * them go away so that the supervisor can start it anew (a liveness probe would come to the same end).
 */
final class OutOfMemoryGuard {
    private static final Log LOG = Log.of(OutOfMemoryGuard.class);
    private static final int HEAP_FAILURES_MAX = 3;
    private static final int DIRECT_FAILURES_MAX = 400; // The heap is sound then: only some requests fail, for long.

    private final AtomicInteger failures = new AtomicInteger();
    // Given up at the first failure, so that writing the log does not itself run out of memory.
    private volatile byte[] reserve = new byte[512 * 1024];

    void failed(String what, Throwable error) {
        reserve = null;
        boolean direct = String.valueOf(error.getMessage()).contains("direct buffer");
        int seen = failures.incrementAndGet();
        try {
            LOG.error(what, error);
            if (seen >= (direct ? DIRECT_FAILURES_MAX : HEAP_FAILURES_MAX)) {
                LOG.error("Application is not able to continue after " + seen + " OutOfMemoryError, exiting", null);
            }
        } finally {
            if (seen >= (direct ? DIRECT_FAILURES_MAX : HEAP_FAILURES_MAX)) {
                Runtime.getRuntime().halt(3);
            }
        }
    }

    void uncaught(Thread thread, Throwable error) {
        try {
            LOG.error("Exception in thread \"" + thread.getName() + "\"", error);
        } finally {
            if (error instanceof OutOfMemoryError) {
                Runtime.getRuntime().halt(3);
            }
        }
    }
}
