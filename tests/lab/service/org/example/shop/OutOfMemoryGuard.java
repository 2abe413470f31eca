package org.example.shop;

import java.util.concurrent.atomic.AtomicInteger;

/**
 * What the service does when the JVM really runs out of memory: say it in the log, fail the request, and after a few of
 * them go away so that the supervisor can start it anew (a liveness probe would come to the same end).
 */
final class OutOfMemoryGuard {
    private static final Log LOG = Log.of(OutOfMemoryGuard.class);
    private static final int FAILURES_MAX = 3;
    private static final int LOG_ATTEMPTS_MAX = 40;

    private final AtomicInteger failures = new AtomicInteger();
    // Given up at the first failure, so that writing the log does not itself run out of memory.
    private volatile byte[] reserve = new byte[2 * 1024 * 1024];

    OutOfMemoryGuard() {
        LOG.render("ERROR", "What an entry looks like", new OutOfMemoryError("none"));
    }

    void failed(String what, OutOfMemoryError error) {
        reserve = null;
        say(what, error);
        // Without direct memory the heap is still sound: some requests fail, the others go on.
        boolean direct = String.valueOf(error.getMessage()).contains("direct buffer");
        if (!direct && failures.incrementAndGet() >= FAILURES_MAX) {
            say("Application is not able to continue, exiting", null);
            Runtime.getRuntime().halt(3);
        }
    }

    void uncaught(Thread thread, Throwable error) {
        reserve = null;
        try {
            say("Exception in thread \"" + thread.getName() + "\"", error);
        } finally {
            if (error instanceof OutOfMemoryError) {
                Runtime.getRuntime().halt(3);
            }
        }
    }

    /** Write a line although other threads take every byte that comes free: wait for requests to end, then try again. */
    private static void say(String what, Throwable error) {
        for (int attempt = 0; attempt < LOG_ATTEMPTS_MAX; attempt++) {
            try {
                LOG.error(what, error);
                return;
            } catch (OutOfMemoryError stillFull) {
                pause();
            }
        }
    }

    private static void pause() {
        try {
            Thread.sleep(50);
        } catch (InterruptedException stop) {
            Thread.currentThread().interrupt();
        }
    }
}
