package org.example.shop;

import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Request threads that grow to {@code server.tomcat.threads.max} before requests queue, as Tomcat's do. */
final class WorkerPool extends ThreadPoolExecutor {
    private static final int QUEUE_MAX = 200; // Tomcat's accept count is 100; twice that keeps short bursts out of the errors.

    /** Refuses a task while another thread may still be started, which makes the executor start it. */
    @SuppressWarnings("serial") // Never serialized.
    private static final class Queue extends LinkedBlockingQueue<Runnable> {
        private transient WorkerPool pool;

        Queue() {
            super(QUEUE_MAX);
        }

        @Override
        public boolean offer(Runnable task) {
            boolean idle = pool.submitted.get() <= pool.getPoolSize();
            return (idle || pool.getPoolSize() >= pool.getMaximumPoolSize()) && super.offer(task);
        }
    }

    private final AtomicInteger submitted = new AtomicInteger();
    private final OutOfMemoryGuard guard;

    WorkerPool(int threadsMax, OutOfMemoryGuard guard) {
        super(Math.min(5, threadsMax), threadsMax, 60, TimeUnit.SECONDS, new Queue(), names());
        this.guard = guard;
        ((Queue) getQueue()).pool = this;
    }

    private static ThreadFactory names() {
        AtomicInteger next = new AtomicInteger();
        return task -> CheckoutApplication.daemon(task, "http-worker-" + next.incrementAndGet());
    }

    @Override
    public void execute(Runnable task) {
        submitted.incrementAndGet();
        try {
            super.execute(task);
        } catch (RejectedExecutionException full) {
            submitted.decrementAndGet();
            throw full;
        } catch (OutOfMemoryError error) {
            // No thread for this request. The dispatcher would die of it silently; say so first.
            submitted.decrementAndGet();
            guard.failed("Failed to start a request thread, " + getPoolSize() + " running", error);
        }
    }

    @Override
    protected void afterExecute(Runnable task, Throwable error) {
        submitted.decrementAndGet();
    }
}
