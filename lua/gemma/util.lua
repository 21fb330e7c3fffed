--- util.lua: the few helpers Neovim does not have. Knows nothing of the plugin.

local M = {}

local uv = vim.uv

--- Virtual lines can scroll sideways with the text.
M.SCROLLS = vim.fn.has('nvim-0.11') == 1 or nil

--- The same path; one whose name begins with ~, which Neovim would read as a user's or the home folder's,
--- is said from here.
---@param path string
---@return string
function M.from_here(path)
  return path:find('^~[^/\\]') and './' .. path or path
end

--- The absolute path that a user means: ~, ~name, $NAME and ${NAME} stand for something; a pattern does not,
--- nor does 'wildignore' count, which expand() would obey.
---@param path string
---@return string
function M.path(path)
  -- Only what can be a user's name: expand() would run what a file's name has between backticks.
  path = path:gsub('^~[%w_.-]+%f[/\\%z]', vim.fn.expand)
  path = path:gsub('%${([%w_]+)}', vim.env):gsub('%$([%w_]+)', vim.env)
  path = vim.fn.fnamemodify(M.from_here(path), ':p')
  return vim.fs.normalize(path, { expand_env = false })
end

--- A path in the plugin's own state folder, which several machines may share. The folder may be missing.
---@param name string
---@return string
function M.state_path(name)
  return vim.fs.joinpath(vim.fn.stdpath('state') --[[@as string]], 'gemma', name)
end

---@param path string
---@param max integer? bytes; all of it
---@return string? text nil when it cannot be read
function M.read_file(path, max)
  local f = io.open(path, 'rb')
  if not f then
    return nil
  end
  local text = f:read(max or '*a')
  f:close()
  return text
end

--- A number in the bytes of a string; bytes behind its end count as 0.
---@param s string
---@param at integer 1-based
---@param n integer bytes
---@param big boolean? the first byte is the most significant one
---@return integer
function M.uint(s, at, n, big)
  local v = 0
  for i = 0, n - 1 do
    v = v * 256 + (s:byte(big and at + i or at + n - 1 - i) or 0)
  end
  return v
end

---@class gemma.Debounce
---@field start fun(ms: integer, ...: any) run fn after ms without another start
---@field stop fun()
---@field pending fun(): boolean

--- One timer for the life of the caller, so that a keystroke makes no garbage.
---@param fn fun()
---@return gemma.Debounce
function M.debounce(fn)
  local timer = assert(uv.new_timer())
  local generation = 0
  local pending = false
  return {
    start = function(ms)
      generation = generation + 1
      pending = true
      local mine = generation
      timer:start(ms, 0, function()
        vim.schedule(function()
          -- A stop() or start() between the timer and this tick wins.
          if mine == generation and pending then
            pending = false
            fn()
          end
        end)
      end)
    end,
    stop = function()
      if pending then
        pending = false
        timer:stop()
      end
    end,
    pending = function()
      return pending
    end,
  }
end

--- Runs fn at once, and then at most every ms milliseconds while calls keep coming; the last
--- call is never lost.
---@param ms integer
---@param fn fun()
---@return fun() call
---@return fun() flush
---@return fun() close nothing is called any more
function M.throttle(ms, fn)
  local timer = assert(uv.new_timer())
  local waiting, dirty = false, false
  local function run()
    dirty = false
    waiting = true
    timer:start(ms, 0, function()
      vim.schedule(function()
        waiting = false
        if dirty then
          run()
        end
      end)
    end)
    fn()
  end
  local function call()
    if waiting then
      dirty = true
    elseif not timer:is_closing() then
      run()
    end
  end
  local function flush()
    if dirty then
      dirty = false
      fn()
    end
  end
  local function close()
    dirty = false
    if not timer:is_closing() then
      timer:close()
    end
  end
  return call, flush, close
end

--- Puts text where a plain p takes it from: 'clipboard' may name another register than the unnamed one.
---@param text string|string[]
---@param kind 'c'|'l' characters or lines
function M.yank(text, kind)
  -- Not v:register, which in a callback may be that of a command that is being typed.
  local clipboard = vim.fn.has('clipboard') == 1
      and vim.split(vim.o.clipboard, ',', { plain = true })
    or {}
  local register = vim.list_contains(clipboard, 'unnamedplus') and '+'
    or vim.list_contains(clipboard, 'unnamed') and '*'
    or '"'
  vim.fn.setreg(register, text, kind)
end

--- Changes text by a function, or, where that is refused, yanks what was to be inserted.
---@param text string|string[]
---@param kind 'c'|'l' characters or lines
---@param fn fun(...) the change
---@param ... any its arguments
---@return boolean changed
---@return string? why Neovim refused, where it has a number for that
function M.insert_or_yank(text, kind, fn, ...)
  local ok, err = pcall(fn, ...)
  if ok then
    return true
  end
  M.yank(text, kind)
  return false, tostring(err):match('E%d+:[^\n]*')
end

--- Changes the text of a buffer of ours, which is not 'modifiable' for anybody else.
---@param buf integer
---@param fn fun() the change
function M.modify(buf, fn)
  vim.bo[buf].modifiable = true
  fn()
  vim.bo[buf].modifiable = false
end

--- What of a line fits into so many cells, with a mark behind it where something was cut.
---@param text string
---@param cells integer
---@param mark string? '…'
---@return string
function M.fit(text, cells, mark)
  if vim.fn.strdisplaywidth(text) <= cells then
    return text
  end
  mark = mark or '…'
  local room = math.max(0, cells - vim.fn.strdisplaywidth(mark))
  local cut = vim.fn.strcharpart(text, 0, room)
  while vim.fn.strdisplaywidth(cut) > room do -- characters of two cells, tabs
    cut = vim.fn.strcharpart(cut, 0, vim.fn.strchars(cut) - 1)
  end
  return cut .. mark
end

--- A window of this tab page that shows a buffer: of several the one that is looked at, which may be a float
--- above another.
---@param buf integer
---@return integer?
function M.window_of(buf)
  local here = vim.api.nvim_get_current_win()
  local win = vim.api.nvim_win_get_buf(here) == buf and here or vim.fn.bufwinid(buf)
  return win ~= -1 and win or nil
end

--- How much text a row of a window holds.
---@param win integer
---@return integer cells, one at least
function M.text_width(win)
  local info = vim.fn.getwininfo(win)[1]
  return math.max(1, info.width - info.textoff)
end

--- Chunks of virtual text as lines that are no wider than a window: Neovim wraps none.
---@param chunks { [1]: string, [2]: string? }[]
---@param cells integer
---@return table[] lines of chunks, one at least
function M.wrap(chunks, cells)
  local lines, room = { {} }, cells
  for _, chunk in ipairs(chunks) do
    local text = chunk[1]
    while text ~= '' do
      local piece = M.fit(text, room, '')
      if piece == '' and room < cells then
        lines[#lines + 1], room = {}, cells
      else
        -- A character that is wider than the window is drawn in part.
        piece = piece ~= '' and piece or vim.fn.strcharpart(text, 0, 1)
        table.insert(lines[#lines], { piece, chunk[2] })
        room = math.max(0, room - vim.fn.strdisplaywidth(piece))
        text = text:sub(#piece + 1)
      end
    end
  end
  return lines
end

--- For Vim's functions, which take a string with a NUL for a Blob: ^A in its place, of the same width.
---@param s string
---@return string
function M.no_nul(s)
  return (s:gsub('%z', '\1'))
end

--- Blanks for tabs, as many as the current buffer would show: virtual text has no tab stops of its own.
---@param line string
---@param width integer display column at which the line begins
---@return string
function M.untab(line, width)
  if not line:find('\t', 1, true) then
    return line
  end
  local out = {}
  for piece, tab in line:gmatch('([^\t]*)(\t?)') do
    out[#out + 1] = piece
    width = width + vim.fn.strdisplaywidth(piece, width)
    if tab ~= '' then
      local cells = vim.fn.strdisplaywidth('\t', width)
      out[#out + 1] = (' '):rep(cells)
      width = width + cells
    end
  end
  return table.concat(out)
end

--- The buffer of a file; nil when it is in none. bufnr() would take the path for a pattern, which matches
--- longer names too.
---@param path string absolute
---@return integer?
function M.buf_of(path)
  -- Of a file that has a buffer bufadd() adds none.
  return vim.fn.bufexists(path) == 1 and vim.fn.bufadd(path) or nil
end

--- A shell pattern as a Lua pattern: `*` and `?`, everything else as it stands.
---@param glob string
---@return string
function M.glob(glob)
  local p = glob:lower():gsub('[%^%$%(%)%%%.%[%]%+%-]', '%%%0')
  p = p:gsub('%*', '.*'):gsub('%?', '.')
  return '^' .. p .. '$'
end

--- Longest valid UTF-8 prefix of s.
---@param s string
---@return string
function M.utf8_prefix(s)
  local i, n = 1, #s
  while i <= n do
    local b = s:byte(i)
    local len, lo, hi = 1, 0x80, 0xBF
    if b >= 0x80 then
      if b >= 0xC2 and b <= 0xDF then
        len = 2
      elseif b >= 0xE0 and b <= 0xEF then
        len = 3
        lo = b == 0xE0 and 0xA0 or lo
        hi = b == 0xED and 0x9F or hi
      elseif b >= 0xF0 and b <= 0xF4 then
        len = 4
        lo = b == 0xF0 and 0x90 or lo
        hi = b == 0xF4 and 0x8F or hi
      else
        return s:sub(1, i - 1)
      end
      for k = 1, len - 1 do
        local c = s:byte(i + k)
        if not c or c < lo or c > hi then
          return s:sub(1, i - 1)
        end
        lo, hi = 0x80, 0xBF
      end
    end
    i = i + len
  end
  return s
end

--- 1, "line" -> "1 line"; 2, "line" -> "2 lines"
---@param n integer
---@param noun string
---@return string
function M.count(n, noun)
  return ('%d %s%s'):format(n, noun, n == 1 and '' or 's')
end

--- 7340032 -> "7.0 MB"
---@param n number bytes
---@return string
function M.bytes(n)
  if n >= 1e9 then
    return ('%.1f GB'):format(n / 1e9)
  elseif n >= 1e6 then
    return ('%.1f MB'):format(n / 1e6)
  elseif n < 1e3 then
    return M.count(n, 'byte')
  end
  return ('%.0f kB'):format(n / 1e3)
end

--- 67.4 -> "1:07"
---@param seconds number
---@return string
function M.duration(seconds)
  local s = math.floor(seconds + 0.5)
  return ('%d:%02d'):format(math.floor(s / 60), s % 60)
end

local host

--- The machine's name, fit for the name of a file: folders may be shared by several machines. A network may
--- give it another one at any time; what was named by it has to be found again.
---@return string
function M.host()
  host = host or vim.uv.os_gethostname():gsub('[^%w.-]', '_')
  return host
end

local boot

--- Tells one start of the machine from another: pids of before mean nothing.
---@return string? nil where the system does not say
function M.boot()
  if boot == nil then
    local f = io.open('/proc/sys/kernel/random/boot_id', 'r')
    boot = f and f:read('*l') or false
    if f then
      f:close()
    end
  end
  return boot or nil
end

--- Was that noted before the machine was last started?
---@param since string? what boot() said then
---@return boolean
function M.rebooted(since)
  local now = M.boot()
  return (since or '') ~= '' and now ~= nil and since ~= now
end

--- Whether no text can be changed now, not even by a callback: an <expr> mapping waits for a key.
---@return boolean
function M.locked()
  -- The lock is looked at before the number, which no buffer has.
  local _, err = pcall(vim.api.nvim_buf_set_lines, -1, 0, 0, false, {})
  return tostring(err):find('E565:', 1, true) ~= nil
end

return M
