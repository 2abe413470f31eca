package org.example.shop;

import java.lang.management.ManagementFactory;
import javax.management.JMException;
import javax.management.ObjectName;

/** The beans that Tomcat and HikariCP register, for the JMX exporter. */
final class ManagementBeans {
    private ManagementBeans() {}

    public interface ManagerMBean {
        int getactiveSessions();

        long getsessionCounter();

        long getexpiredSessions();
    }

    public interface ThreadPoolMBean {
        int getcurrentThreadCount();

        int getcurrentThreadsBusy();

        int getmaxThreads();
    }

    public interface PoolMBean {
        int getActiveConnections();

        int getThreadsAwaitingConnection();

        int getTotalConnections();
    }

    static void register(SessionStore sessions, WorkerPool workers, ConnectionPool connections) throws JMException {
        var server = ManagementFactory.getPlatformMBeanServer();
        server.registerMBean(new Manager(sessions), new ObjectName("Catalina:type=Manager,host=localhost,context=/"));
        server.registerMBean(new ThreadPool(workers), new ObjectName("Catalina:type=ThreadPool,name=\"http-nio-8080\""));
        server.registerMBean(new Pool(connections), new ObjectName("com.zaxxer.hikari:type=Pool (HikariPool-1)"));
    }

    public record Manager(SessionStore sessions) implements ManagerMBean {
        @Override
        public int getactiveSessions() {
            return sessions.active();
        }

        @Override
        public long getsessionCounter() {
            return sessions.created();
        }

        @Override
        public long getexpiredSessions() {
            return sessions.expired();
        }
    }

    public record ThreadPool(WorkerPool workers) implements ThreadPoolMBean {
        @Override
        public int getcurrentThreadCount() {
            return workers.getPoolSize();
        }

        @Override
        public int getcurrentThreadsBusy() {
            return workers.getActiveCount();
        }

        @Override
        public int getmaxThreads() {
            return workers.getMaximumPoolSize();
        }
    }

    public record Pool(ConnectionPool connections) implements PoolMBean {
        @Override
        public int getActiveConnections() {
            return connections.active();
        }

        @Override
        public int getThreadsAwaitingConnection() {
            return connections.pending();
        }

        @Override
        public int getTotalConnections() {
            return connections.maximum();
        }
    }
}
