--- tools.lua: the programs of other people that take screenshots, record, and read the clipboard.
---
--- Data and pure functions: which are there, with which arguments, and what to install when none is.
--- Runs nothing (see grab.lua and record.lua).

local M = {}

---@class (exact) gemma.tools.Env what a choice depends on
---@field os 'linux'|'mac'|'win'|'wsl'
---@field wayland boolean
---@field x11 boolean
---@field display string? of X11
---@field has fun(program: string): boolean

---@class gemma.Tool
---@field name string as in the options
---@field needs string[] programs
---@field fits fun(env: gemma.tools.Env): boolean
---@field argv fun(env: gemma.tools.Env, file: string?): string[]
---@field stdout boolean? it writes to its standard output, not to a file
---@field ext string? of the file it writes
---@field quit string? to its standard input, where there are no signals

---@return gemma.tools.Env
function M.env()
  local has = vim.fn.has
  local os = has('win32') == 1 and 'win'
    or has('mac') == 1 and 'mac'
    or has('wsl') == 1 and 'wsl'
    or 'linux'
  local display = vim.env.DISPLAY
  return {
    os = os,
    wayland = (vim.env.WAYLAND_DISPLAY or '') ~= '',
    x11 = (display or '') ~= '',
    display = display,
    has = function(program)
      return vim.fn.executable(program) == 1
    end,
  }
end

local function always()
  return true
end

local function unix(env)
  return env.os ~= 'win'
end

local function wayland(env)
  return env.wayland
end

local function x11(env)
  return env.x11
end

local function desktop(env)
  return env.os == 'linux' and (env.wayland or env.x11)
end

local function windows(env)
  return env.os == 'win' or env.os == 'wsl'
end

local function mac(env)
  return env.os == 'mac'
end

-- Text, not bytes, comes through PowerShell's pipes unharmed.
local POWERSHELL = { 'powershell.exe', '-NoProfile', '-NonInteractive', '-STA', '-Command' }

---@param script string
---@return string[]
local function powershell(script)
  return vim.list_extend(vim.list_extend({}, POWERSHELL), { script })
end

local PS_PNG = [[
$m = New-Object System.IO.MemoryStream
$p.Save($m, [System.Drawing.Imaging.ImageFormat]::Png)
[Convert]::ToBase64String($m.ToArray())]]

M.PS_CLIPBOARD = [[
Add-Type -AssemblyName System.Windows.Forms, System.Drawing
$p = [System.Windows.Forms.Clipboard]::GetImage()
if ($null -eq $p) { exit 1 }
]] .. PS_PNG

M.PS_SHOT = [[
Add-Type -AssemblyName System.Windows.Forms, System.Drawing
$r = [System.Windows.Forms.SystemInformation]::VirtualScreen
$p = New-Object System.Drawing.Bitmap $r.Width, $r.Height
$g = [System.Drawing.Graphics]::FromImage($p)
$g.CopyFromScreen($r.Location, [System.Drawing.Point]::Empty, $r.Size)
]] .. PS_PNG

-- ---- screenshots ---------------------------------------------------------------------------

---@type gemma.Tool[]
M.shot = {
  {
    name = 'grim',
    needs = { 'grim', 'slurp' },
    fits = wayland,
    -- slurp lets the user draw a rectangle; giving up there is no failure of grim.
    argv = function(_, file)
      return { 'sh', '-c', 'area=$(slurp) && exec grim -g "$area" "$0"', file }
    end,
  },
  {
    name = 'maim',
    needs = { 'maim' },
    fits = x11,
    argv = function(_, file)
      return { 'maim', '--hidecursor', '--select', file }
    end,
  },
  {
    name = 'spectacle',
    needs = { 'spectacle' },
    fits = desktop,
    argv = function(_, file)
      return { 'spectacle', '--background', '--nonotify', '--region', '--output', file }
    end,
  },
  {
    name = 'gnome-screenshot',
    needs = { 'gnome-screenshot' },
    fits = desktop,
    argv = function(_, file)
      return { 'gnome-screenshot', '--area', '--file=' .. file }
    end,
  },
  {
    name = 'screencapture',
    needs = { 'screencapture' },
    fits = mac,
    argv = function(_, file)
      return { 'screencapture', '-i', '-x', file }
    end,
  },
  {
    name = 'powershell',
    needs = { 'powershell.exe' },
    fits = windows,
    stdout = true,
    argv = function()
      return powershell(M.PS_SHOT)
    end,
  },
}

-- ---- the clipboard -------------------------------------------------------------------------

--- Types asked for, best first: the first three need no loss and no guess.
M.CLIPBOARD_TYPES =
  { 'image/png', 'image/jpeg', 'image/webp', 'image/gif', 'image/bmp', 'image/tiff' }

---@param out string list of types, one a line
---@return string? the type to ask for
function M.clipboard_type(out)
  local offered = {}
  for type in out:gmatch('[^\r\n]+') do
    offered[vim.trim(type):lower()] = true
  end
  for _, t in ipairs(M.CLIPBOARD_TYPES) do
    if offered[t] then
      return t
    end
  end
end

---@class gemma.tools.Clipboard
---@field name string
---@field needs string[]
---@field fits fun(env: gemma.tools.Env): boolean
---@field types string[]? command that lists what is there
---@field read fun(type: string?): string[] command that writes the picture
---@field base64 boolean?

---@type gemma.tools.Clipboard[]
M.clipboard = {
  {
    name = 'wl-paste',
    needs = { 'wl-paste' },
    fits = wayland,
    types = { 'wl-paste', '--list-types' },
    read = function(type)
      return { 'wl-paste', '--no-newline', '--type', type }
    end,
  },
  {
    name = 'xclip',
    needs = { 'xclip' },
    fits = x11,
    types = { 'xclip', '-selection', 'clipboard', '-target', 'TARGETS', '-out' },
    read = function(type)
      return { 'xclip', '-selection', 'clipboard', '-target', type, '-out' }
    end,
  },
  {
    name = 'pngpaste',
    needs = { 'pngpaste' },
    fits = mac,
    read = function()
      return { 'pngpaste', '-' }
    end,
  },
  {
    name = 'powershell',
    needs = { 'powershell.exe' },
    fits = windows,
    base64 = true,
    read = function()
      return powershell(M.PS_CLIPBOARD)
    end,
  },
}

-- ---- recording -----------------------------------------------------------------------------

M.RATE = 16000 -- of the model; recorders that can are asked for it

---@param env gemma.tools.Env
---@return string[]
local function ffmpeg_voice(env)
  local input = { '-f', 'pulse', '-i', 'default' }
  if env.os == 'mac' then
    input = { '-f', 'avfoundation', '-i', ':default' }
  end
  return vim
    .iter({
      { 'ffmpeg', '-hide_banner', '-loglevel', 'error', '-nostdin', '-fflags', 'nobuffer' },
      input,
      { '-ac', '1', '-ar', tostring(M.RATE), '-flush_packets', '1', '-f', 's16le', 'pipe:1' },
    })
    :flatten()
    :totable()
end

--- Each writes signed 16-bit samples to its standard output: bare, or behind a WAV or AU header.
---@type gemma.Tool[]
M.voice = {
  {
    name = 'pw-record',
    needs = { 'pw-record' },
    fits = unix,
    stdout = true,
    argv = function()
      return { 'pw-record', '--rate=16000', '--channels=1', '--format=s16', '--latency=40ms', '-' }
    end,
  },
  {
    name = 'parecord',
    needs = { 'parecord' },
    fits = unix,
    stdout = true,
    argv = function()
      -- stylua: ignore
      return {
        'parecord', '--raw', '--rate=16000', '--channels=1', '--format=s16le', '--latency-msec=40',
      }
    end,
  },
  {
    name = 'arecord',
    needs = { 'arecord' },
    fits = unix,
    stdout = true,
    argv = function()
      return { 'arecord', '-q', '-t', 'raw', '-f', 'S16_LE', '-r', '16000', '-c', '1' }
    end,
  },
  {
    name = 'sox',
    needs = { 'sox' },
    fits = always,
    stdout = true,
    argv = function(env)
      -- stylua: ignore
      local argv = {
        'sox', '-q', '--buffer', '2048', '-d', '-t', 'raw', '-e', 'signed-integer', '-b', '16', '-L',
        '-r', '16000', '-c', '1', '-',
      }
      if env.os == 'win' then
        return argv
      end
      -- A sound server hands over two seconds at a time when it is not asked for less.
      return vim.list_extend({ 'env', 'PULSE_LATENCY_MSEC=40' }, argv)
    end,
  },
  {
    name = 'ffmpeg',
    needs = { 'ffmpeg' },
    fits = unix, -- on Windows it wants the microphone's name
    stdout = true,
    argv = ffmpeg_voice,
  },
}

--- Matroska can be read although its writer was cut off; 10 frames a second are more than the model
--- looks at.
---@type gemma.Tool[]
M.screen = {
  {
    name = 'wf-recorder',
    needs = { 'wf-recorder' },
    fits = wayland,
    ext = 'mkv',
    argv = function(_, file)
      return { 'wf-recorder', '-y', '-f', file }
    end,
  },
  {
    name = 'ffmpeg',
    needs = { 'ffmpeg' },
    fits = function(env)
      return env.os == 'mac' or env.os == 'win' or (env.x11 and not env.wayland)
    end,
    ext = 'mkv',
    quit = 'q',
    argv = function(env, file)
      local input = { '-f', 'x11grab', '-framerate', '10', '-i', env.display }
      if env.os == 'mac' then
        input = { '-f', 'avfoundation', '-framerate', '10', '-i', 'Capture screen 0:none' }
      elseif env.os == 'win' then
        input = { '-f', 'gdigrab', '-framerate', '10', '-i', 'desktop' }
      end
      return vim
        .iter({
          { 'ffmpeg', '-hide_banner', '-loglevel', 'error', '-y' },
          input,
          { '-r', '10', '-pix_fmt', 'yuv420p', '-preset', 'ultrafast', file },
        })
        :flatten()
        :totable()
    end,
  },
}

-- ---- choosing ------------------------------------------------------------------------------

--- Those of a list that can work here, in order.
---@generic T
---@param list T[]
---@param env gemma.tools.Env
---@return T[]
function M.usable(list, env)
  return vim.tbl_filter(function(t)
    return t.fits(env) and vim.iter(t.needs):all(env.has)
  end, list)
end

--- A command of the user's, as a tool. Written to a file when it has a place for its name.
---@param command string[]
---@param ext string
---@return gemma.Tool
local function own(command, ext)
  local to_file = false
  for _, word in ipairs(command) do
    to_file = to_file or word:find('{file}', 1, true) ~= nil
  end
  return {
    name = vim.fs.basename(command[1] or '?'),
    needs = { command[1] },
    fits = always,
    ext = ext,
    stdout = not to_file,
    argv = function(_, file)
      return vim.tbl_map(function(word)
        return (word:gsub('{file}', function()
          return file or ''
        end))
      end, command)
    end,
  }
end

--- The tools that an option asks for; empty and one line when there are none.
---@param kind 'shot'|'voice'|'screen'
---@param option string|string[]
---@param env gemma.tools.Env
---@return gemma.Tool[]
---@return string? err
function M.choose(kind, option, env)
  local list = M[kind] ---@type gemma.Tool[]
  local ext = kind == 'shot' and 'png' or 'mkv'
  if type(option) == 'table' then
    if not option[1] or not env.has(option[1]) then
      return {}, ('there is no program %s. Check the options.'):format(option[1] or '""')
    end
    return { own(option, ext) }
  elseif option ~= 'auto' then
    local names = {}
    for _, t in ipairs(list) do
      names[#names + 1] = t.name
      if t.name == option then
        for _, program in ipairs(t.needs) do
          if not env.has(program) then
            return {}, ('there is no program %s. Install it or choose another.'):format(program)
          end
        end
        return { t }
      end
    end
    return {}, ('%s is not known. There are: %s.'):format(option, table.concat(names, ', '))
  end
  local found = M.usable(list, env)
  if #found > 0 then
    return found
  end
  return {}, M.missing(kind, env)
end

---@param kind 'shot'|'voice'|'screen'|'clipboard'
---@param env gemma.tools.Env
---@return string one line
function M.missing(kind, env)
  local what = ({
    shot = 'no screenshot program',
    voice = 'no recorder',
    screen = 'no screen recorder',
    clipboard = 'no program for pictures in the clipboard',
  })[kind]
  local names = {}
  for _, t in ipairs(M[kind]) do
    if t.fits(env) then
      names[#names + 1] = table.concat(t.needs, ' with ')
    end
  end
  if #names == 0 then
    return what .. ' works here (no display).'
  end
  return ('%s found (looked for %s).'):format(what, table.concat(names, ', '))
end

--- What to install, for :checkhealth.
---@param kind 'shot'|'voice'|'screen'|'clipboard'
---@param env gemma.tools.Env
---@return string
function M.advice(kind, env)
  if env.os == 'mac' then
    return ({
      shot = 'screencapture comes with macOS; is /usr/sbin in $PATH?',
      voice = 'brew install sox, or brew install ffmpeg',
      screen = 'brew install ffmpeg',
      clipboard = 'brew install pngpaste',
    })[kind]
  elseif env.os == 'win' or (env.os == 'wsl' and kind ~= 'voice') then
    return ({
      shot = 'powershell.exe comes with Windows; is it in $PATH?',
      voice = 'install SoX, or set media.recorder to a command',
      screen = 'winget install ffmpeg',
      clipboard = 'powershell.exe comes with Windows; is it in $PATH?',
    })[kind]
  end
  return ({
    shot = env.wayland and 'install grim and slurp, or the screenshot program of your desktop'
      or 'install maim, or the screenshot program of your desktop',
    voice = 'install pipewire-bin or pulseaudio-utils or alsa-utils',
    screen = env.wayland and 'install wf-recorder, or set media.screen to a command'
      or 'install ffmpeg',
    clipboard = env.wayland and 'install wl-clipboard' or 'install xclip',
  })[kind]
end

return M
